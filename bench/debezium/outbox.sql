-- Debezium's conventional outbox table, and the publication that its connector reads.
CREATE TABLE outbox (
    id            uuid         NOT NULL PRIMARY KEY,
    aggregatetype varchar(255) NOT NULL,
    aggregateid   varchar(255) NOT NULL,
    type          varchar(255) NOT NULL,
    payload       text         NOT NULL
);

CREATE PUBLICATION bench FOR TABLE outbox;
