-- Run for every job, so by position, and without RETURNING where that is safe: see enqueue.insert.
-- name: insert
INSERT INTO litequeue_jobs
    (task, queue, payload, state, priority, run_at, created_at, expires_at, timeout, retries,
     key, key_scope, held_key, tags, schedule)
VALUES
    (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)

-- Many that differ in their payloads only, as many as there are of (?): a third of what one statement each costs.
-- name: insert_together
INSERT INTO litequeue_jobs
    (task, queue, payload, state, priority, run_at, created_at, expires_at, timeout, retries,
     key, key_scope, held_key, tags, schedule)
SELECT ?, ?, column1, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ? FROM (VALUES (?))

-- `insert` as a transaction of its own: into a schema of another version than the first parameter, no task is refused.
-- name: insert_alone
INSERT INTO litequeue_jobs
    (task, queue, payload, state, priority, run_at, created_at, expires_at, timeout, retries,
     key, key_scope, held_key, tags, schedule)
VALUES
    (CASE (SELECT value FROM litequeue_meta WHERE name = 'schema_version') WHEN ? THEN ? END,
     ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)

-- Where the job's row has none. OR REPLACE: someone may have deleted a job by hand, and not this.
-- name: keep_payload
INSERT OR REPLACE INTO litequeue_payloads (job, payload) VALUES (?, ?)

-- name: drop_payload
DELETE FROM litequeue_payloads WHERE job = :id

-- The job that has the key on record, and whether it holds it. No claim and no end takes it off the record.
-- name: key_holder
SELECT CAST(id AS TEXT), +state, +begun,
       CASE key_scope WHEN 'kept' THEN delete_at IS NULL OR delete_at > :now WHEN 'queued' THEN state < 3 ELSE state < 4 END,
       held_until > :now, held_until - :now > held_for
FROM litequeue_jobs LEFT JOIN litequeue_timed_keys ON job = litequeue_jobs.id WHERE task = :task AND held_key = :key

-- name: hold_key
INSERT OR REPLACE INTO litequeue_timed_keys (job, held_until, held_for) VALUES (:job, :now + :held_for, :held_for)

-- The clock was set back since: from now on its time begins anew.
-- name: hold_key_again
UPDATE litequeue_timed_keys SET held_until = :now + held_for WHERE job = :job

-- name: time_of_key_is_over
SELECT 1 FROM litequeue_timed_keys WHERE job = :job AND held_until <= :now

-- The next version of a task that holds any key: see core/stored_names.py. As one statement with the above, by WITH
-- RECURSIVE, it takes 65 us instead of 5.
-- name: next_version
SELECT min(task) FROM litequeue_jobs WHERE held_key IS NOT NULL AND task > :after AND task < :end

-- name: payload_of
SELECT coalesce(payload, (SELECT payload FROM litequeue_payloads WHERE job = litequeue_jobs.id), x'')
FROM litequeue_jobs WHERE id = :id

-- name: free_key
UPDATE litequeue_jobs SET held_key = NULL WHERE task = :task AND held_key = :key

-- name: replace
UPDATE litequeue_jobs
SET task = :task, payload = :payload, queue = :queue, state = :state, priority = :priority, run_at = :run_at,
    expires_at = :expires_at, timeout = :timeout, retries = :retries, tags = :tags
WHERE id = :id AND state < 3

-- Changes nothing: begins to write in a transaction of the application's, which may have been begun to read.
-- name: take_write_lock
UPDATE litequeue_meta SET value = value WHERE name = ''

-- The queued jobs of a task in all queues and of all versions, ready and parked ones, of which :limit are read. The lane of
-- version 2 of `send` is `send@2`, and A comes after @.
-- name: queued_of
WITH RECURSIVE ready (queue) AS (
    SELECT (SELECT queue FROM litequeue_jobs WHERE state = 1 ORDER BY queue LIMIT 1)
    UNION ALL
    SELECT (SELECT queue FROM litequeue_jobs WHERE state = 1 AND queue > ready.queue ORDER BY queue LIMIT 1)
    FROM ready WHERE ready.queue IS NOT NULL),
parked (queue) AS (
    SELECT (SELECT queue FROM litequeue_parked ORDER BY queue LIMIT 1)
    UNION ALL
    SELECT (SELECT queue FROM litequeue_parked WHERE queue > parked.queue ORDER BY queue LIMIT 1)
    FROM parked WHERE parked.queue IS NOT NULL)
SELECT count(*) FROM (
    SELECT 1 FROM ready CROSS JOIN litequeue_jobs AS job
    WHERE job.state = 1 AND job.queue = ready.queue AND job.task = +:task
    UNION ALL
    SELECT 1 FROM ready CROSS JOIN litequeue_jobs AS job
    WHERE job.state = 1 AND job.queue = ready.queue AND job.task > :task || '@' AND job.task < :task || 'A'
    UNION ALL
    SELECT 1 FROM parked CROSS JOIN litequeue_parked AS job WHERE job.queue = parked.queue AND job.task = +:task
    UNION ALL
    SELECT 1 FROM parked CROSS JOIN litequeue_parked AS job
    WHERE job.queue = parked.queue AND job.task > :task || '@' AND job.task < :task || 'A'
    LIMIT CAST(:limit AS INTEGER))
