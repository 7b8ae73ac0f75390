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
       CASE key_scope WHEN 'kept' THEN delete_at IS NULL OR delete_at > :now WHEN 'queued' THEN state < 3 ELSE state < 4 END
FROM litequeue_jobs WHERE task = :task AND held_key = :key

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
