update outbox.hold set released = true where topic = $1 and key = $2
