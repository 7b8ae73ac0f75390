-- The last lines that runs have logged: of the tasks that keep them, and of the last few runs of a job.

CREATE TABLE litequeue_run_logs (
    job     INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    at      REAL NOT NULL, -- when it was written last
    written INTEGER NOT NULL CHECK (written >= 0), -- bytes that the run has logged in all
    dropped INTEGER NOT NULL CHECK (dropped >= 0), -- records that are not among those kept
    log     BLOB NOT NULL -- text, as the queue's codec encodes it
) STRICT;

CREATE UNIQUE INDEX litequeue_run_logs_job ON litequeue_run_logs (job, attempt);

-- Jobs whose logs someone reads while they run: until then a worker writes them as they grow.
CREATE TABLE litequeue_log_followers (
    job   INTEGER PRIMARY KEY,
    until REAL NOT NULL
) STRICT;

CREATE VIEW litequeue_run_logs_view AS
SELECT job, attempt, strftime('%Y-%m-%d %H:%M:%f', at, 'unixepoch') AS at, written, dropped,
       iif(json_valid(CAST(log AS TEXT)), json_extract(CAST(log AS TEXT), '$'), '(encoded by the queue''s codec)') AS log
FROM litequeue_run_logs;

CREATE VIEW litequeue_log_followers_view AS
SELECT job, strftime('%Y-%m-%d %H:%M:%f', until, 'unixepoch') AS until FROM litequeue_log_followers;
