-- A record that was replayed and is given up later is the same dead letter again: it has to be found.
create index dead_letter_event_idx on inbox.dead_letter (consumer, source, event_id);
