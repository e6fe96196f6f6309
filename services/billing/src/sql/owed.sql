-- Read from the partial index of what is due: it has these rows and no others.
SELECT status, count(*) AS count,
    greatest(extract(epoch FROM now() - min(CASE status WHEN 'PENDING' THEN created_at ELSE updated_at END)), 0)::float8
        AS oldest_secs
FROM payments
WHERE status IN ('PENDING', 'REFUNDING')
GROUP BY status
