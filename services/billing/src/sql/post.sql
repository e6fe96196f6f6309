INSERT INTO ledger_postings (entry_id, payment_id, kind, account, currency, minor)
SELECT entry_id, payment_id, kind, account, currency, minor
FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::text[], $5::text[], $6::bigint[])
    AS posting (entry_id, payment_id, kind, account, currency, minor)
