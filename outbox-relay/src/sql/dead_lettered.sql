update outbox.parked set dead_lettered = true where id = $1
