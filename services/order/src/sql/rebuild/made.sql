-- How the view's table is made, a line for each part of it, and the newest migration.
select concat_ws(' ', 'table', oid, 'of', relowner::regrole) from pg_class where oid = 'orders'::regclass
union all
select concat_ws(' ', 'column', attname, format_type(atttypid, atttypmod), case when attnotnull then 'not null' end,
                 attidentity, attgenerated, attstorage, attcollation::regcollation, pg_get_expr(adbin, adrelid))
from pg_attribute
left join pg_attrdef on (adrelid, adnum) = (attrelid, attnum)
where attrelid = 'orders'::regclass and attnum > 0 and not attisdropped
union all
select concat_ws(' ', 'rule', conname, pg_get_constraintdef(oid)) from pg_constraint where conrelid = 'orders'::regclass
union all
select concat_ws(' ', 'index', pg_get_indexdef(indexrelid)) from pg_index where indrelid = 'orders'::regclass
union all
select concat_ws(' ', 'migration', max(version)) from _sqlx_migrations
