-- What may start, how many at once and how often. Of a plain job nothing is kept here: its row and its statements are
-- those of before. A new column of litequeue_jobs would have SQLite read all rows, since the table has CHECKs.
-- The word in litequeue_meta under 'rules' changes with each change of a limit, a pause or a task's rules.

-- As the code declared it last, and as an operator has set it since: JSON, by field. See limits/limit.py.
CREATE TABLE litequeue_limits (
    name        TEXT PRIMARY KEY,
    declared    TEXT,
    operator    TEXT,
    operator_at REAL,
    CHECK ((operator IS NULL) = (operator_at IS NULL))
) STRICT, WITHOUT ROWID;

-- What the code declared last of each task that is more than plain: JSON. See limits/task_rules.py.
CREATE TABLE litequeue_tasks (
    name  TEXT PRIMARY KEY,
    rules TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE litequeue_pauses (
    kind      TEXT NOT NULL CHECK (kind IN ('queue', 'task')),
    name      TEXT NOT NULL,
    paused_at REAL NOT NULL,
    PRIMARY KEY (kind, name)
) STRICT, WITHOUT ROWID;

-- What a job takes of its limits where that depends on its arguments: JSON, {limit: [key, cost]}.
CREATE TABLE litequeue_limited (
    job   INTEGER PRIMARY KEY,
    takes TEXT NOT NULL
) STRICT;

-- Jobs that could begin but for a full key of a limit: waiting (state 2), and out of the index of ready jobs, until there is
-- room. Their status is queued. Each is among those of one key: of the first of its limits that was full.
CREATE TABLE litequeue_parked (
    job        INTEGER PRIMARY KEY,
    limit_name TEXT NOT NULL,
    key        TEXT NOT NULL,
    queue      TEXT NOT NULL,
    task       TEXT NOT NULL,
    rank       INTEGER NOT NULL -- the negative of its priority
) STRICT;

CREATE INDEX litequeue_parked_line ON litequeue_parked (limit_name, key, queue, task, rank, job);
CREATE INDEX litequeue_parked_lane ON litequeue_parked (queue, task, rank);

-- The lanes (queue, task) in which jobs of a key are parked. look_at: when to look again whether there is room, by the
-- machine's monotonic clock, which 'boot' in litequeue_meta names. An end and a change of the limit look sooner.
CREATE TABLE litequeue_full_keys (
    limit_name TEXT NOT NULL,
    key        TEXT NOT NULL,
    queue      TEXT NOT NULL,
    task       TEXT NOT NULL,
    look_at    REAL NOT NULL,
    PRIMARY KEY (limit_name, key, queue, task)
) STRICT, WITHOUT ROWID;

CREATE INDEX litequeue_full_keys_due ON litequeue_full_keys (look_at);

-- Starts that count against a rate, by the same clock. Of a rate of more than 64 in its window they are gathered in 64
-- slices, each under its end.
CREATE TABLE litequeue_starts (
    limit_name TEXT NOT NULL,
    key        TEXT NOT NULL, -- '': the limit has none
    at         REAL NOT NULL,
    count      INTEGER NOT NULL,
    PRIMARY KEY (limit_name, key, at)
) STRICT, WITHOUT ROWID;

CREATE INDEX litequeue_starts_at ON litequeue_starts (at);

-- The job of each key whose jobs keep their order, from its first run until it has ended for good.
CREATE TABLE litequeue_ordered (
    limit_name TEXT NOT NULL,
    key        TEXT NOT NULL,
    job        INTEGER NOT NULL,
    PRIMARY KEY (limit_name, key)
) STRICT, WITHOUT ROWID;

CREATE INDEX litequeue_ordered_job ON litequeue_ordered (job);

-- Runs that ended for their worker while their function goes on: a thread that did not stop at its time limit.
CREATE TABLE litequeue_left_behind (
    job     INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    worker  INTEGER NOT NULL,
    task    TEXT NOT NULL,
    takes   TEXT, -- as in litequeue_limited
    PRIMARY KEY (job, attempt)
) STRICT, WITHOUT ROWID;

CREATE INDEX litequeue_left_behind_worker ON litequeue_left_behind (worker);

-- Keys that are held for a time from the enqueue, whatever becomes of the job. held_for: seconds, so that a clock that
-- was set back holds none for longer.
CREATE TABLE litequeue_timed_keys (
    job        INTEGER PRIMARY KEY,
    held_until REAL NOT NULL,
    held_for   REAL NOT NULL
) STRICT;

-- JSON: {queue: how many of its jobs at once}, {resource: how much of it}.
ALTER TABLE litequeue_workers ADD COLUMN slots TEXT;
ALTER TABLE litequeue_workers ADD COLUMN offers TEXT;

-- What calls of a task give by position, in order: a JSON list of names. A version of the task with `upgrade` gets the
-- arguments of older calls by these names. See serialization/upgrading.py.
CREATE TABLE litequeue_parameters (
    task  TEXT PRIMARY KEY, -- with its version, as in litequeue_jobs
    names TEXT NOT NULL
) STRICT, WITHOUT ROWID;
-- JSON: the names of its tasks whose runs may not be repeated.
ALTER TABLE litequeue_workers ADD COLUMN at_most_once TEXT NOT NULL DEFAULT '[]';

-- The views of 001 once more: the status of a parked job is queued.
DROP VIEW litequeue_jobs_view;
DROP VIEW litequeue_records;
DROP VIEW litequeue_listed;

CREATE VIEW litequeue_jobs_view AS
SELECT id, task, queue,
       CASE state WHEN 0 THEN 'scheduled' WHEN 1 THEN 'queued'
                  WHEN 2 THEN iif(EXISTS (SELECT 1 FROM litequeue_parked WHERE job = litequeue_jobs.id), 'queued', 'waiting')
                  WHEN 3 THEN 'running'
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
SELECT id, task, queue,
       iif(state = 2 AND EXISTS (SELECT 1 FROM litequeue_parked WHERE job = litequeue_jobs.id), 1, state) AS state,
       priority, attempt, failures, deaths, retries, created_at, run_at, started_at, finished_at, expires_at, key, tags, schedule, worker, cancel_requested, progress,
       coalesce(payload, (SELECT payload FROM litequeue_payloads WHERE job = litequeue_jobs.id), x'') AS payload,
       CASE WHEN state = 4 THEN coalesce(result, (SELECT result FROM litequeue_results WHERE job = litequeue_jobs.id)) END AS result,
       CASE WHEN EXISTS (SELECT 1 FROM litequeue_errors WHERE job = litequeue_jobs.id) THEN
       (SELECT json_group_array(json_array(error.attempt, min(max(error.at, -1e15), 1e15), error.type, error.message, error.traceback))
        FROM (SELECT * FROM litequeue_errors WHERE job = litequeue_jobs.id ORDER BY attempt) AS error) END AS errors,
       delete_at
FROM litequeue_jobs;

-- What listings read: the same without what may be large; not for others either.
CREATE VIEW litequeue_listed AS
SELECT id, task, queue,
       iif(state = 2 AND EXISTS (SELECT 1 FROM litequeue_parked WHERE job = litequeue_jobs.id), 1, state) AS state,
       priority, attempt, failures, deaths, retries, created_at, run_at, started_at, finished_at, expires_at, key, tags, schedule, worker, cancel_requested, progress,
       (SELECT type || ': ' || substr(message, 1, 200) FROM litequeue_errors WHERE job = litequeue_jobs.id
        ORDER BY attempt DESC LIMIT 1) AS last_error
FROM litequeue_jobs;

DROP VIEW litequeue_workers_view;

CREATE VIEW litequeue_workers_view AS
SELECT id, json_extract(identity, '$.host') AS host, json_extract(identity, '$.pid') AS pid, queues, tasks, threads, coroutines,
       slots, offers,
       strftime('%Y-%m-%d %H:%M:%f', started_at, 'unixepoch') AS started_at,
       strftime('%Y-%m-%d %H:%M:%f', beat_at, 'unixepoch') AS beat_at
FROM litequeue_workers;

CREATE VIEW litequeue_limits_view AS
SELECT name, declared, operator, strftime('%Y-%m-%d %H:%M:%f', operator_at, 'unixepoch') AS operator_at,
       (SELECT count(*) FROM litequeue_parked WHERE limit_name = name) AS parked
FROM litequeue_limits;

CREATE VIEW litequeue_pauses_view AS
SELECT kind, name, strftime('%Y-%m-%d %H:%M:%f', paused_at, 'unixepoch') AS paused_at FROM litequeue_pauses;
