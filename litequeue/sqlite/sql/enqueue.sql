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

-- name: key_holder
SELECT CAST(id AS TEXT), coalesce(payload, (SELECT payload FROM litequeue_payloads WHERE job = litequeue_jobs.id), x''),
       state, begun, delete_at
FROM litequeue_jobs WHERE task = :task AND held_key = :key

-- A key that is held by a job whose time has passed, and which is only to be pruned yet.
-- name: free_key
UPDATE litequeue_jobs SET held_key = NULL WHERE task = :task AND held_key = :key AND delete_at <= :now

-- name: replace
UPDATE litequeue_jobs
SET payload = :payload, queue = :queue, state = :state, priority = :priority, run_at = :run_at,
    expires_at = :expires_at, timeout = :timeout, retries = :retries, tags = :tags
WHERE id = :id AND state < 3
