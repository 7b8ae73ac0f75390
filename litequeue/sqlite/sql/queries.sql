-- Every statement litequeue runs, by name. Written for SQLite 3.37. States are listed in schema/001_initial.sql.
-- A parameter at which SQLite's planner looks, to compare it with an ORDER BY or to plan a LIMIT, has the statement prepared
-- anew at each run, which can cost ten times what it does: hence +:queue, and CAST(:limit AS INTEGER).
-- A count that a foreign hand has set to the largest number stays there: one more would be refused, and all beside it.

-- ---- enqueue

-- Run for every job, so by position, and without RETURNING where that is safe: see transitions.insert.
-- name: insert
INSERT INTO litequeue_jobs
    (task, queue, payload, state, priority, run_at, created_at, expires_at, timeout, retries,
     key, key_scope, held_key, tags, schedule)
VALUES
    (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)

-- The same as a transaction of its own: into a schema of another version than the first parameter, no task is refused.
-- name: insert_alone
INSERT INTO litequeue_jobs
    (task, queue, payload, state, priority, run_at, created_at, expires_at, timeout, retries,
     key, key_scope, held_key, tags, schedule)
VALUES
    (CASE (SELECT value FROM litequeue_meta WHERE name = 'schema_version') WHEN ? THEN ? END,
     ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)

-- The same, and claimed at once by a worker at rest; nothing, unless it is on record and has nothing, and nothing is ready.
-- name: insert_handed
INSERT INTO litequeue_jobs
    (task, queue, payload, state, priority, run_at, created_at, expires_at, timeout, retries,
     key, key_scope, held_key, tags, schedule, attempt, begun, worker, started_at)
SELECT ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 1, 1, ?, ?
WHERE (SELECT value FROM litequeue_meta WHERE name = 'schema_version') = ?
      AND EXISTS (SELECT 1 FROM litequeue_workers WHERE id = ?)
      AND NOT EXISTS (SELECT 1 FROM litequeue_jobs WHERE state = 2 AND worker = ?)
      AND NOT EXISTS (SELECT 1 FROM litequeue_jobs WHERE state = 1)

-- name: key_holder
SELECT CAST(id AS TEXT), payload, state, begun
FROM litequeue_jobs WHERE task = :task AND held_key = :key

-- name: replace
UPDATE litequeue_jobs
SET payload = :payload, queue = :queue, state = :state, priority = :priority, run_at = :run_at,
    expires_at = :expires_at, timeout = :timeout, retries = :retries, tags = :tags
WHERE id = :id AND state < 2

-- ---- claim

-- name: promote
UPDATE litequeue_jobs SET state = 1
WHERE id IN (SELECT id FROM litequeue_jobs WHERE state = 0 AND run_at <= :now ORDER BY run_at LIMIT CAST(:limit AS INTEGER))

-- name: expire
UPDATE litequeue_jobs
SET state = 7, finished_at = :now, delete_at = :delete_at,
    held_key = CASE WHEN key_scope = 'kept' THEN held_key END
WHERE id IN (SELECT id FROM litequeue_jobs
             WHERE state < 2 AND begun = 0 AND expires_at IS NOT NULL AND expires_at <= :now ORDER BY expires_at LIMIT CAST(:limit AS INTEGER))

-- Before a claim, in one statement, since each costs most where the processor has slept: first when something scheduled
-- is due, when something expires, and whether the worker is on record; then the distinct (queue, task) pairs with a
-- ready job, by one index probe a pair, however long the backlog.
-- name: look
WITH RECURSIVE lane (queue, task) AS (
    SELECT * FROM (SELECT queue, task FROM litequeue_jobs WHERE state = 1 ORDER BY queue, task LIMIT 1)
    UNION ALL
    SELECT
        coalesce((SELECT queue FROM litequeue_jobs
                  WHERE state = 1 AND queue = lane.queue AND task > lane.task ORDER BY task LIMIT 1),
                 (SELECT queue FROM litequeue_jobs WHERE state = 1 AND queue > lane.queue ORDER BY queue LIMIT 1)),
        coalesce((SELECT task FROM litequeue_jobs
                  WHERE state = 1 AND queue = lane.queue AND task > lane.task ORDER BY task LIMIT 1),
                 (SELECT task FROM litequeue_jobs WHERE state = 1 AND queue > lane.queue ORDER BY queue, task LIMIT 1))
    FROM lane WHERE lane.queue IS NOT NULL)
SELECT (SELECT min(run_at) FROM litequeue_jobs WHERE state = 0),
       (SELECT min(expires_at) FROM litequeue_jobs WHERE state < 2 AND begun = 0 AND expires_at IS NOT NULL),
       EXISTS (SELECT 1 FROM litequeue_workers WHERE id = :worker)
UNION ALL
SELECT queue, task, NULL FROM lane WHERE queue IS NOT NULL

-- Where only one such pair is of interest, its first jobs are read at once, as they will be when they are claimed.
-- name: front
SELECT CAST(id AS TEXT), attempt + (attempt < 9223372036854775807), task, queue, payload, priority, failures, deaths, timeout, retries, key, created_at
FROM litequeue_jobs WHERE state = 1 AND queue = +:queue AND task = +:task
ORDER BY -priority, id LIMIT CAST(:limit AS INTEGER)

-- At most :limit index entries a task are read; jobs of other tasks are never touched.
-- name: heads
SELECT -priority, id FROM litequeue_jobs WHERE state = 1 AND queue = +:queue AND task = +:task
ORDER BY -priority, id LIMIT CAST(:limit AS INTEGER)

-- The same without those under which workers died: it reads a row for each.
-- name: unsuspected_heads
SELECT -priority, id FROM litequeue_jobs
WHERE state = 1 AND queue = +:queue AND task = +:task AND deaths <= +:most_deaths
ORDER BY -priority, id LIMIT CAST(:limit AS INTEGER)

-- Run for one run of ids after another, so by position: worker, now, first, last. One UPDATE of all with RETURNING costs
-- a temporary table or four each time, which is most of what a claim of one job takes.
-- name: take
UPDATE litequeue_jobs
SET state = 2, attempt = attempt + (attempt < 9223372036854775807), begun = begun + (begun < 9223372036854775807), worker = ?, started_at = ?,
    held_key = CASE WHEN key_scope = 'queued' THEN NULL ELSE held_key END
WHERE id BETWEEN ? AND ? AND +state = 1

-- name: taken
SELECT CAST(job.id AS TEXT), attempt, task, queue, payload, priority, failures, deaths, timeout, retries, job.key, created_at
FROM json_each(:ids) AS taken CROSS JOIN litequeue_jobs AS job ON job.id = taken.value

-- name: requested_cancels
SELECT CAST(id AS TEXT), attempt FROM litequeue_jobs
WHERE state = 2 AND worker = :worker AND cancel_requested = 1

-- ---- settle: each names the attempt, so a late worker changes nothing

-- Run for many jobs at a time, so by position: now, delete_at, result, id, attempt.
-- name: succeed
UPDATE litequeue_jobs
SET state = 4, worker = NULL, finished_at = ?, delete_at = ?, result = ?,
    held_key = CASE WHEN key_scope = 'kept' THEN held_key END
WHERE id = ? AND attempt = ? AND state = 2

-- The same for so many at once as there are rows of values: a statement a job costs a third more. Nothing goes before
-- UPDATE: where WITH does, Python's sqlite3 counts no rows.
-- name: succeed_together
UPDATE litequeue_jobs
SET state = 4, worker = NULL, finished_at = ended.column1, delete_at = ended.column2, result = ended.column3,
    held_key = CASE WHEN key_scope = 'kept' THEN held_key END
FROM (VALUES (?, ?, ?, ?, ?)) AS ended
WHERE litequeue_jobs.id = ended.column4 AND litequeue_jobs.attempt = ended.column5 AND litequeue_jobs.state = 2

-- name: complete
UPDATE litequeue_jobs
SET state = 4, worker = NULL, finished_at = :now, delete_at = :delete_at, result = :result,
    held_key = CASE WHEN key_scope = 'kept' THEN held_key END
WHERE id = :id AND attempt = :attempt AND state = 2
RETURNING id

-- name: fail
UPDATE litequeue_jobs
SET state = 5, worker = NULL, finished_at = :now, delete_at = :delete_at, failures = failures + (failures < 9223372036854775807),
    held_key = CASE WHEN key_scope = 'kept' THEN held_key END
WHERE id = :id AND attempt = :attempt AND state = 2
RETURNING id

-- name: finish_cancelled
UPDATE litequeue_jobs
SET state = 6, worker = NULL, finished_at = :now, delete_at = :delete_at,
    held_key = CASE WHEN key_scope = 'kept' THEN held_key END
WHERE id = :id AND attempt = :attempt AND state = 2
RETURNING id

-- name: retry_later
UPDATE litequeue_jobs SET state = 0, worker = NULL, run_at = :run_at, failures = failures + (failures < 9223372036854775807)
WHERE id = :id AND attempt = :attempt AND state = 2
RETURNING id

-- name: snooze
UPDATE litequeue_jobs SET state = 0, worker = NULL, run_at = :run_at
WHERE id = :id AND attempt = :attempt AND state = 2
RETURNING id

-- name: release
UPDATE litequeue_jobs SET state = 1, worker = NULL
WHERE id = :id AND attempt = :attempt AND state = 2
RETURNING id

-- The same for a claim whose function was never called: as if it had not been claimed. So it holds its key again, if
-- none has taken that meanwhile.
-- name: put_back
UPDATE litequeue_jobs
SET state = 1, worker = NULL, begun = max(0, begun - 1), started_at = CASE WHEN begun > 1 THEN started_at END,
    held_key = CASE WHEN key_scope = 'queued' AND begun = 1 AND NOT EXISTS
                         (SELECT 1 FROM litequeue_jobs AS other
                          WHERE other.task = litequeue_jobs.task AND other.held_key = litequeue_jobs.key)
                    THEN key ELSE held_key END
WHERE id = :id AND attempt = :attempt AND state = 2
RETURNING id

-- A cancel that was asked for while the job ran takes effect where it would have come back.
-- name: cancel_returned
UPDATE litequeue_jobs
SET state = 6, finished_at = :now, delete_at = :delete_at, held_key = CASE WHEN key_scope = 'kept' THEN held_key END
WHERE id = :id AND state < 2 AND cancel_requested = 1
RETURNING id

-- name: record_error
INSERT OR REPLACE INTO litequeue_errors (job, attempt, at, type, message, traceback)
VALUES (:id, :attempt, :now, :type, :message, :traceback)

-- name: run_state
SELECT state, attempt FROM litequeue_jobs WHERE id = :id AND state < 8

-- name: still_mine
SELECT 1 FROM litequeue_jobs WHERE id = :id AND attempt = :attempt AND state = 2

-- name: note_progress
UPDATE litequeue_jobs SET progress = :progress WHERE id = :id AND attempt = :attempt AND state = 2
RETURNING cancel_requested

-- ---- control

-- name: cancel
UPDATE litequeue_jobs
SET state = 6, finished_at = :now, delete_at = :delete_at, cancel_requested = 1,
    held_key = CASE WHEN key_scope = 'kept' THEN held_key END
WHERE id = :id AND state IN (0, 1, 3)
RETURNING id

-- name: request_cancel
UPDATE litequeue_jobs SET cancel_requested = 1 WHERE id = :id AND state = 2
RETURNING id

-- name: retry_of
SELECT state, task, key FROM litequeue_jobs WHERE id = :id AND state < 8

-- name: retry
UPDATE litequeue_jobs
SET state = 1, run_at = :now, failures = 0, deaths = 0, finished_at = NULL, delete_at = NULL, expires_at = NULL,
    cancel_requested = 0, held_key = key, progress = NULL
WHERE id = :id AND state IN (0, 5, 6, 7)

-- ---- workers

-- name: register
INSERT INTO litequeue_workers (token, identity, queues, tasks, threads, coroutines, started_at, beat_at)
VALUES (:token, :identity, :queues, :tasks, :threads, :coroutines, :now, :now)
RETURNING id

-- name: beat
UPDATE litequeue_workers SET beats = CASE beats WHEN 9223372036854775807 THEN 0 ELSE beats + 1 END, beat_at = :now
WHERE id = :worker AND (SELECT value FROM litequeue_meta WHERE name = 'schema_version') = :version
RETURNING EXISTS (SELECT 1 FROM litequeue_workers WHERE id <> :worker)
       OR EXISTS (SELECT 1 FROM litequeue_jobs
                  WHERE state = 2 AND worker NOT IN (SELECT id FROM litequeue_workers))

-- name: workers
SELECT id, token, identity, queues, tasks, threads, coroutines, started_at, beats, beat_at,
       (SELECT count(*) FROM litequeue_jobs WHERE state = 2 AND worker = litequeue_workers.id)
FROM litequeue_workers ORDER BY id

-- name: served_by
SELECT queues, tasks FROM litequeue_workers WHERE id = :worker

-- name: unregister
DELETE FROM litequeue_workers WHERE id = :worker
RETURNING id

-- name: runs_of
SELECT CAST(id AS TEXT), attempt, deaths FROM litequeue_jobs
WHERE state = 2 AND worker = +:worker ORDER BY id

-- name: ownerless
SELECT DISTINCT worker FROM litequeue_jobs
WHERE state = 2 AND worker NOT IN (SELECT id FROM litequeue_workers)

-- Workers on record, and those that are not but hold running jobs.
-- name: everyone
SELECT id FROM litequeue_workers UNION SELECT worker FROM litequeue_jobs WHERE state = 2

-- name: orphans
SELECT count(*) FROM litequeue_errors
WHERE NOT EXISTS (SELECT 1 FROM litequeue_jobs WHERE id = job AND state < 8)

-- name: drop_orphans
DELETE FROM litequeue_errors
WHERE NOT EXISTS (SELECT 1 FROM litequeue_jobs WHERE id = job AND state < 8)
RETURNING job

-- The application's own, too; but not those that a PRIMARY KEY or UNIQUE brings.
-- name: indexes
SELECT sql FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL

-- name: forget_indexes
DELETE FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL

-- name: blame
UPDATE litequeue_jobs SET state = 1, worker = NULL, deaths = deaths + (deaths < 9223372036854775807)
WHERE id = :id AND attempt = :attempt AND state = 2
RETURNING id

-- name: condemn
UPDATE litequeue_jobs
SET state = 5, worker = NULL, finished_at = :now, delete_at = :delete_at, deaths = deaths + (deaths < 9223372036854775807),
    held_key = CASE WHEN key_scope = 'kept' THEN held_key END
WHERE id = :id AND attempt = :attempt AND state = 2
RETURNING id

-- ---- prune

-- name: prune_errors
DELETE FROM litequeue_errors
WHERE job IN (SELECT id FROM litequeue_jobs WHERE delete_at IS NOT NULL AND delete_at <= :now
              ORDER BY delete_at LIMIT CAST(:limit AS INTEGER))

-- name: prune
DELETE FROM litequeue_jobs
WHERE id IN (SELECT id FROM litequeue_jobs WHERE delete_at IS NOT NULL AND delete_at <= :now
             ORDER BY delete_at LIMIT CAST(:limit AS INTEGER))
RETURNING id

-- What newest jobs have left behind, but for the last.
-- name: prune_deleted
DELETE FROM litequeue_jobs
WHERE id IN (SELECT id FROM litequeue_jobs WHERE state > 4 AND state = 8 AND id < (SELECT max(id) FROM litequeue_jobs)
             ORDER BY id LIMIT CAST(:limit AS INTEGER))

-- name: next_prune
SELECT min(delete_at) FROM litequeue_jobs WHERE delete_at IS NOT NULL

-- ---- schedules

-- name: due_schedules
SELECT name, task, queue, payload, priority, trigger, declared, paused, created_at, next_at, last_at, CAST(last_job AS TEXT),
       hex(name)
FROM litequeue_schedules
WHERE next_at IS NOT NULL AND paused = 0 AND next_at <= :now AND task IN (SELECT value FROM json_each(:tasks))
ORDER BY next_at

-- name: next_schedule
SELECT min(next_at) FROM litequeue_schedules
WHERE next_at IS NOT NULL AND paused = 0 AND task IN (SELECT value FROM json_each(:tasks))
      AND hex(name) NOT IN (SELECT value FROM json_each(:broken))

-- name: schedules
SELECT name, task, queue, payload, priority, trigger, declared, paused, created_at, next_at, last_at, CAST(last_job AS TEXT)
FROM litequeue_schedules ORDER BY name

-- name: schedule
SELECT name, task, queue, payload, priority, trigger, declared, paused, created_at, next_at, last_at, CAST(last_job AS TEXT)
FROM litequeue_schedules WHERE name = :name

-- name: add_schedule
INSERT INTO litequeue_schedules (name, task, queue, payload, priority, trigger, declared, created_at, next_at)
VALUES (:name, :task, :queue, :payload, :priority, :trigger, :declared, :now, :next_at)

-- name: change_schedule
UPDATE litequeue_schedules
SET task = :task, queue = :queue, payload = :payload, priority = :priority, trigger = :trigger,
    declared = :declared, next_at = :next_at
WHERE name = :name

-- name: remove_schedule
DELETE FROM litequeue_schedules WHERE name = :name
RETURNING name

-- name: pause_schedule
UPDATE litequeue_schedules SET paused = 1 WHERE name = :name
RETURNING name

-- name: resume_schedule
UPDATE litequeue_schedules SET paused = 0, next_at = :next_at WHERE name = :name
RETURNING name

-- name: advance_schedule
UPDATE litequeue_schedules
SET next_at = :next_at, last_at = coalesce(:last_at, last_at), last_job = coalesce(:last_job, last_job)
WHERE name = :name

-- ---- look

-- name: look_up
SELECT CAST(job.id AS TEXT), task, queue, state, priority, attempt, failures, deaths, created_at, run_at,
       started_at, finished_at, expires_at, key, tags, schedule, CAST(worker AS TEXT), cancel_requested, progress,
       payload, result,
       CASE WHEN EXISTS (SELECT 1 FROM litequeue_errors WHERE job = job.id) THEN
       (SELECT json_group_array(json_array(error.attempt, min(max(error.at, -1e15), 1e15), error.type, error.message, error.traceback))
        FROM (SELECT * FROM litequeue_errors WHERE job = job.id ORDER BY attempt) AS error) END
FROM litequeue_jobs AS job WHERE job.id = :id AND state < 8

-- name: list_jobs
SELECT CAST(job.id AS TEXT), task, queue, state, priority, attempt, failures, deaths, created_at, run_at,
       started_at, finished_at, expires_at, key, tags, schedule, CAST(worker AS TEXT), cancel_requested, progress,
       payload, result,
       (SELECT json_group_array(json_array(error.attempt, min(max(error.at, -1e15), 1e15), error.type, error.message, error.traceback))
        FROM (SELECT * FROM litequeue_errors WHERE job = job.id ORDER BY attempt) AS error)
FROM litequeue_jobs AS job
WHERE state < 8 AND (:state IS NULL OR state = :state) AND (:task IS NULL OR task = :task) AND (:queue IS NULL OR queue = :queue)
      AND (:tag IS NULL OR EXISTS (SELECT 1 FROM json_each(CASE WHEN json_valid(job.tags) THEN job.tags ELSE json_array(job.tags) END)
                                    WHERE value = :tag))
      AND (:before IS NULL OR job.id < :before)
ORDER BY job.id DESC LIMIT CAST(:limit AS INTEGER)

-- name: list_dead_jobs
SELECT CAST(job.id AS TEXT), task, queue, state, priority, attempt, failures, deaths, created_at, run_at,
       started_at, finished_at, expires_at, key, tags, schedule, CAST(worker AS TEXT), cancel_requested, progress,
       payload, result,
       (SELECT json_group_array(json_array(error.attempt, min(max(error.at, -1e15), 1e15), error.type, error.message, error.traceback))
        FROM (SELECT * FROM litequeue_errors WHERE job = job.id ORDER BY attempt) AS error)
FROM litequeue_jobs AS job
WHERE state > 4 AND state = :state AND (:task IS NULL OR task = :task) AND (:queue IS NULL OR queue = :queue)
      AND (:tag IS NULL OR EXISTS (SELECT 1 FROM json_each(CASE WHEN json_valid(job.tags) THEN job.tags ELSE json_array(job.tags) END)
                                    WHERE value = :tag))
      AND (:before IS NULL OR job.id < :before)
ORDER BY job.id DESC LIMIT CAST(:limit AS INTEGER)

-- name: counts
SELECT queue, state, count(*), min(created_at) FROM litequeue_jobs WHERE state < 8 GROUP BY queue, state

-- name: ready_counts
SELECT queue, task, count(*), min(run_at) FROM litequeue_jobs WHERE state = 1 GROUP BY queue, task

-- name: recent_durations
SELECT task, finished_at - started_at FROM litequeue_jobs
WHERE id IN (SELECT id FROM litequeue_jobs WHERE state IN (4, 5) AND started_at IS NOT NULL ORDER BY id DESC LIMIT CAST(:limit AS INTEGER))
      AND finished_at - started_at IS NOT NULL

-- ---- the file

-- name: ours
SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'litequeue_meta'

-- name: any_table
SELECT 1 FROM sqlite_schema LIMIT 1

-- name: get_meta
SELECT value FROM litequeue_meta WHERE name = :name

-- name: set_meta
INSERT OR REPLACE INTO litequeue_meta (name, value) VALUES (:name, :value)
