-- States: 0 scheduled, 1 queued, 2 waiting, 3 running, 4 succeeded, 5 failed, 6 cancelled, 7 expired. So what does not
-- run yet is < 3, what has not ended is < 4, what has ended otherwise than well is > 4.
-- A row whose delete_at has passed is not there for look-ups, listings and keys. 0: emptied, and kept for its id, which a
-- newer job would get else; that is never deleted while it is the newest.
-- Times are seconds since 1970 (UTC); spans are seconds. Statements end with a semicolon at the end of a line.

CREATE TABLE litequeue_meta (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE litequeue_workers (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    token      TEXT NOT NULL UNIQUE,
    identity   TEXT NOT NULL,
    queues     TEXT,
    tasks      TEXT NOT NULL,
    modules    TEXT NOT NULL DEFAULT '[]', -- that declare these and schedules
    threads    INTEGER NOT NULL,
    coroutines INTEGER NOT NULL,
    started_at REAL NOT NULL,
    beats      INTEGER NOT NULL DEFAULT 0,
    beat_at    REAL NOT NULL,
    shrinks_until REAL -- until then the other workers leave it to this one to make the file smaller
) STRICT;

CREATE TABLE litequeue_jobs (
    id               INTEGER PRIMARY KEY CHECK (id < 9223372036854775807), -- after that one SQLite takes any
    task             TEXT NOT NULL,
    queue            TEXT NOT NULL,
    state            INTEGER NOT NULL CHECK (state BETWEEN 0 AND 7), -- before the payload: read without its overflow pages
    payload          BLOB, -- NULL: it is large, and in litequeue_payloads
    priority         INTEGER NOT NULL CHECK (priority BETWEEN -100 AND 100),
    run_at           REAL NOT NULL,
    created_at       REAL NOT NULL,
    attempt          INTEGER NOT NULL DEFAULT 0 CHECK (attempt BETWEEN 0 AND 1000000000000000),
    begun            INTEGER NOT NULL DEFAULT 0 CHECK (begun BETWEEN 0 AND attempt), -- claims whose function may have been called
    failures         INTEGER NOT NULL DEFAULT 0 CHECK (failures BETWEEN 0 AND 1000000000000000),
    deaths           INTEGER NOT NULL DEFAULT 0 CHECK (deaths BETWEEN 0 AND 1000000000000000),
    worker           INTEGER,
    started_at       REAL,
    finished_at      REAL,
    delete_at        REAL,
    expires_at       REAL,
    timeout          REAL,
    retries          INTEGER,
    cancel_requested INTEGER NOT NULL DEFAULT 0 CHECK (cancel_requested IN (0, 1)),
    key              TEXT,
    key_scope        TEXT CHECK (key_scope IN ('kept', 'unfinished', 'queued')),
    held_key         TEXT CHECK (held_key IS NULL OR held_key IS key), -- left when it is held no more: see key_holder
    tags             TEXT,
    schedule         TEXT,
    progress         TEXT,
    result           BLOB, -- NULL where state = 4: it is large, and in litequeue_results
    -- so that each claim and each end can count one more, also in a row that someone else wrote
    CHECK (state >= 3 OR attempt < 1000000000000000),
    CHECK (state >= 4 OR max(failures, deaths) < 1000000000000000),
    CHECK ((state = 3) = (worker IS NOT NULL)),
    CHECK (state <> 3 OR (started_at IS NOT NULL AND attempt > 0)),
    CHECK ((state >= 4) = (finished_at IS NOT NULL)),
    CHECK (delete_at IS NULL OR state >= 4),
    CHECK (result IS NULL OR state = 4)
) STRICT;

CREATE INDEX litequeue_jobs_ready ON litequeue_jobs (queue, task, -priority, id) WHERE state = 1;
CREATE INDEX litequeue_jobs_due ON litequeue_jobs (priority DESC, run_at) WHERE state = 0;
CREATE INDEX litequeue_jobs_running ON litequeue_jobs (worker) WHERE state = 3;
CREATE INDEX litequeue_jobs_expiring ON litequeue_jobs (expires_at) WHERE state < 3 AND begun = 0 AND expires_at IS NOT NULL;
CREATE INDEX litequeue_jobs_ended ON litequeue_jobs (delete_at) WHERE delete_at IS NOT NULL;
CREATE INDEX litequeue_jobs_dead ON litequeue_jobs (state, id) WHERE state > 4;
-- For counts alone, and of what is neither enqueued nor succeeds as most jobs do: those pay nothing for it.
CREATE INDEX litequeue_jobs_counted ON litequeue_jobs (queue, state) WHERE state <> 1 AND state <> 3 AND state <> 4;
CREATE UNIQUE INDEX litequeue_jobs_key ON litequeue_jobs (task, held_key) WHERE held_key IS NOT NULL;

-- A change of state rewrites the job's row: so large values are not in it.
CREATE TABLE litequeue_payloads (
    job     INTEGER PRIMARY KEY,
    payload BLOB NOT NULL
) STRICT;

CREATE TABLE litequeue_results (
    job    INTEGER PRIMARY KEY,
    result BLOB NOT NULL
) STRICT;

-- With rowids: without, an entry of more than 1 kB takes a page of its own.
CREATE TABLE litequeue_errors (
    job       INTEGER NOT NULL,
    attempt   INTEGER NOT NULL,
    at        REAL NOT NULL,
    type      TEXT NOT NULL,
    message   TEXT NOT NULL,
    traceback TEXT NOT NULL
) STRICT;

CREATE UNIQUE INDEX litequeue_errors_job ON litequeue_errors (job, attempt);

CREATE TABLE litequeue_schedules (
    name        TEXT PRIMARY KEY,
    task        TEXT NOT NULL,
    queue       TEXT NOT NULL,
    priority    INTEGER NOT NULL CHECK (priority BETWEEN -100 AND 100),
    trigger     TEXT NOT NULL,
    overlap     TEXT NOT NULL DEFAULT 'skip' CHECK (overlap IN ('skip', 'queue', 'allow', 'replace')),
    catch_up    TEXT NOT NULL DEFAULT 'one' CHECK (catch_up IN ('one', 'all', 'none')),
    until       REAL, -- no tick after it
    max_runs    INTEGER CHECK (max_runs > 0),
    expires     REAL, -- seconds from its tick in which a job must begin
    module      TEXT, -- that declared it; NULL: none did
    declared    TEXT, -- a digest of what the code said last
    paused      INTEGER NOT NULL DEFAULT 0 CHECK (paused IN (0, 1)),
    created_at  REAL NOT NULL,
    next_at     REAL,
    computed_at REAL, -- when next_at was: a clock that is behind that was set back
    last_at     REAL,
    last_job    INTEGER,
    runs        INTEGER NOT NULL DEFAULT 0, -- jobs that ticks have enqueued
    skipped     INTEGER NOT NULL DEFAULT 0, -- ticks that have no job of their own
    skipping    INTEGER NOT NULL DEFAULT 0, -- those of them since the last that has one
    skipping_since REAL,
    payload     BLOB NOT NULL, -- last: what stands before it is read without its overflow pages
    CHECK ((module IS NULL) = (declared IS NULL)),
    CHECK ((skipping = 0) = (skipping_since IS NULL))
) STRICT, WITHOUT ROWID;

-- The task: schedules of tasks that a worker does not know are passed over without a look at their rows.
CREATE INDEX litequeue_schedules_due ON litequeue_schedules (next_at, name, task) WHERE next_at IS NOT NULL AND paused = 0;
CREATE INDEX litequeue_schedules_declared ON litequeue_schedules (module, name, task) WHERE module IS NOT NULL;

-- Jobs that have not ended, of schedules whose jobs run one after another: a line for each. Those that are held are
-- waiting (state 2) until no other one of their line is left. Not of the schedule's row, which may be removed meanwhile.
CREATE TABLE litequeue_serial (
    job      INTEGER PRIMARY KEY,
    schedule TEXT NOT NULL,
    held     INTEGER NOT NULL CHECK (held IN (0, 1))
) STRICT;

CREATE INDEX litequeue_serial_line ON litequeue_serial (schedule, held, job);

CREATE VIEW litequeue_jobs_view AS
SELECT id, task, queue,
       CASE state WHEN 0 THEN 'scheduled' WHEN 1 THEN 'queued' WHEN 2 THEN 'waiting' WHEN 3 THEN 'running'
                  WHEN 4 THEN 'succeeded' WHEN 5 THEN 'failed' WHEN 6 THEN 'cancelled' ELSE 'expired' END AS status,
       priority, attempt, max(1, failures + (state <> 5)) AS tries, failures, deaths,
       strftime('%Y-%m-%d %H:%M:%f', created_at, 'unixepoch') AS created_at,
       strftime('%Y-%m-%d %H:%M:%f', run_at, 'unixepoch') AS run_at,
       strftime('%Y-%m-%d %H:%M:%f', started_at, 'unixepoch') AS started_at,
       strftime('%Y-%m-%d %H:%M:%f', finished_at, 'unixepoch') AS finished_at,
       strftime('%Y-%m-%d %H:%M:%f', expires_at, 'unixepoch') AS expires_at,
       strftime('%Y-%m-%d %H:%M:%f', delete_at, 'unixepoch') AS delete_at,
       key, key_scope, tags, schedule, progress, worker,
       CAST(coalesce(payload, (SELECT payload FROM litequeue_payloads WHERE job = litequeue_jobs.id)) AS TEXT) AS payload,
       CAST(CASE WHEN state = 4 THEN coalesce(result, (SELECT result FROM litequeue_results WHERE job = litequeue_jobs.id)) END
            AS TEXT) AS result,
       (SELECT type || ': ' || message FROM litequeue_errors WHERE job = litequeue_jobs.id
        ORDER BY attempt DESC LIMIT 1) AS last_error
FROM litequeue_jobs WHERE delete_at IS NULL OR delete_at > 0;

-- What look-ups read; not for others: its columns change with a release.
CREATE VIEW litequeue_records AS
SELECT id, task, queue, state, priority, attempt, failures, deaths, retries, created_at, run_at, started_at, finished_at,
       expires_at, key, tags, schedule, worker, cancel_requested, progress,
       coalesce(payload, (SELECT payload FROM litequeue_payloads WHERE job = litequeue_jobs.id), x'') AS payload,
       CASE WHEN state = 4 THEN coalesce(result, (SELECT result FROM litequeue_results WHERE job = litequeue_jobs.id)) END AS result,
       CASE WHEN EXISTS (SELECT 1 FROM litequeue_errors WHERE job = litequeue_jobs.id) THEN
       (SELECT json_group_array(json_array(error.attempt, min(max(error.at, -1e15), 1e15), error.type, error.message, error.traceback))
        FROM (SELECT * FROM litequeue_errors WHERE job = litequeue_jobs.id ORDER BY attempt) AS error) END AS errors,
       delete_at
FROM litequeue_jobs;

-- What listings read: the same without what may be large; not for others either.
CREATE VIEW litequeue_listed AS
SELECT id, task, queue, state, priority, attempt, failures, deaths, retries, created_at, run_at, started_at, finished_at,
       expires_at, key, tags, schedule, worker, cancel_requested, progress,
       (SELECT type || ': ' || substr(message, 1, 200) FROM litequeue_errors WHERE job = litequeue_jobs.id
        ORDER BY attempt DESC LIMIT 1) AS last_error
FROM litequeue_jobs;

CREATE VIEW litequeue_errors_view AS
SELECT job, attempt, strftime('%Y-%m-%d %H:%M:%f', at, 'unixepoch') AS at, type, message, traceback
FROM litequeue_errors;

CREATE VIEW litequeue_schedules_view AS
SELECT name, task, queue, CAST(payload AS TEXT) AS payload, trigger, overlap, catch_up,
       strftime('%Y-%m-%d %H:%M:%f', until, 'unixepoch') AS until, max_runs, expires,
       coalesce(module, 'file') AS origin, CASE WHEN paused THEN 'paused' ELSE 'active' END AS status, runs, skipped,
       strftime('%Y-%m-%d %H:%M:%f', next_at, 'unixepoch') AS next_at,
       strftime('%Y-%m-%d %H:%M:%f', last_at, 'unixepoch') AS last_at, last_job
FROM litequeue_schedules;

CREATE VIEW litequeue_workers_view AS
SELECT id, json_extract(identity, '$.host') AS host, json_extract(identity, '$.pid') AS pid, queues, tasks, threads, coroutines,
       strftime('%Y-%m-%d %H:%M:%f', started_at, 'unixepoch') AS started_at,
       strftime('%Y-%m-%d %H:%M:%f', beat_at, 'unixepoch') AS beat_at
FROM litequeue_workers;
