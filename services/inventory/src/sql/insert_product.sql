insert into products (product_id, name, currency, price_minor, archived, version)
values ($1, $2, $3, $4, $5, $6)
on conflict on constraint products_pkey do nothing
returning created_at
