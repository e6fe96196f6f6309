select topic, snap::text as snap, win::text as win, win_id, reason from outbox.lane order by topic
