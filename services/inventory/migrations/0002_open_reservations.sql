-- no-transaction
-- What is held and neither shipped nor given back: the age of the oldest is watched. Writers go on meanwhile.
CREATE INDEX CONCURRENTLY IF NOT EXISTS reservations_open_idx ON reservations (created_at) WHERE state = 'RESERVED';
