select topic, key, released from outbox.hold
