delete from outbox.overtaken where topic = $1 and key = $2
