insert into products as known (product_id, name, version, currency, price_minor, archived)
values ($1, $2, $3, $4, $5, $6)
on conflict on constraint products_pkey do update
set name = excluded.name, version = excluded.version, currency = excluded.currency, price_minor = excluded.price_minor,
    archived = excluded.archived, updated_at = now()
-- A repeat, or one that a replay brings late.
where known.version < excluded.version
