-- How the indexes of the view, and the rules that need one, are made.
select indexed.relname::text as name, pg_get_constraintdef(rule.oid) as rule, is_made.indisunique as is_unique,
       substring(pg_get_indexdef(indexed.oid) from ' ON [^ ]+ (.*)$') as definition
from pg_index as is_made
join pg_class as indexed on indexed.oid = is_made.indexrelid
left join pg_constraint as rule on rule.conindid = indexed.oid and rule.conrelid = is_made.indrelid
where is_made.indrelid = 'orders'::regclass
-- The primary key first: the others follow its order.
order by is_made.indisprimary desc, indexed.relname
