-- W3C trace context of the record that requested it, so that its delivery belongs to that trace. Null, too, for what was
-- requested before there were such columns.
alter table notifications
    add column traceparent text,
    add column tracestate text;
