-- What hangs on the view's table and is neither a column, a check nor an index.
select 'trigger ' || tgname from pg_trigger where tgrelid = 'orders'::regclass and not tgisinternal
union all
select 'foreign key ' || conname from pg_constraint where contype = 'f' and 'orders'::regclass in (conrelid, confrelid)
union all
select 'policy ' || polname from pg_policy where polrelid = 'orders'::regclass
union all
select distinct 'view ' || rule.ev_class::regclass::text
from pg_depend
join pg_rewrite as rule on rule.oid = pg_depend.objid
where pg_depend.classid = 'pg_rewrite'::regclass
  and pg_depend.refclassid = 'pg_class'::regclass
  and pg_depend.refobjid = 'orders'::regclass
union all
select 'publication ' || pubname
from pg_publication_rel
join pg_publication as publication on publication.oid = prpubid
where prrelid = 'orders'::regclass
union all
select 'option ' || option
from pg_class as live
join pg_class as has_options on has_options.oid in (live.oid, live.reltoastrelid)
cross join unnest(has_options.reloptions) as option
where live.oid = 'orders'::regclass
union all
select 'replica identity' from pg_class where oid = 'orders'::regclass and relreplident <> 'd'
union all
select 'row level security' from pg_class where oid = 'orders'::regclass and (relrowsecurity or relforcerowsecurity)
