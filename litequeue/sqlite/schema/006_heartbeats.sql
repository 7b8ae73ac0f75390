-- The details that a job has told last by `heartbeat()`, for its next attempt.
CREATE TABLE litequeue_heartbeats (
    job     INTEGER PRIMARY KEY,
    attempt INTEGER NOT NULL,
    at      REAL NOT NULL,
    details BLOB NOT NULL
) STRICT;

CREATE VIEW litequeue_heartbeats_view AS
SELECT job, attempt, strftime('%Y-%m-%d %H:%M:%f', at, 'unixepoch') AS at, CAST(details AS TEXT) AS details
FROM litequeue_heartbeats;
