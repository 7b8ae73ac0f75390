-- What running jobs have emitted. number: 1, 2, 3 over all runs of a job. With rowids: without, an entry of more than 1 kB
-- takes a page of its own.
CREATE TABLE litequeue_streams (
    job     INTEGER NOT NULL,
    number  INTEGER NOT NULL CHECK (number BETWEEN 1 AND 1000000000000000),
    attempt INTEGER NOT NULL,
    at      REAL NOT NULL,
    value   BLOB -- NULL: what follows was emitted by this attempt, and what came before by another
) STRICT;

CREATE UNIQUE INDEX litequeue_streams_job ON litequeue_streams (job, number);

CREATE VIEW litequeue_streams_view AS
SELECT job, number, CASE WHEN value IS NULL THEN 'attempt' ELSE 'value' END AS kind, attempt, CAST(value AS TEXT) AS value,
       strftime('%Y-%m-%d %H:%M:%f', at, 'unixepoch') AS at
FROM litequeue_streams;
