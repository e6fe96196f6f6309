-- What is held and neither shipped nor given back: the age of the oldest is watched.
CREATE INDEX reservations_open_idx ON reservations (created_at) WHERE state = 'RESERVED';
