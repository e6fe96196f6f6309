-- Rows of one transaction: ids, the topic of all, keys, payloads.
INSERT INTO outbox (id, aggregatetype, aggregateid, type, payload)
SELECT e.id, $2, e.key, 'orderly.order.v1.OrderCreated', e.payload
FROM unnest($1::uuid[], $3::text[], $4::text[]) WITH ORDINALITY AS e (id, key, payload, position)
ORDER BY e.position
