-- name: register
INSERT INTO litequeue_workers
    (token, identity, queues, tasks, modules, at_most_once, threads, coroutines, started_at, beat_at)
VALUES (:token, :identity, :queues, :tasks, :modules, :at_most_once, :threads, :coroutines, :now, :now)
RETURNING id

-- name: serve_tasks
UPDATE litequeue_workers SET tasks = :tasks, modules = :modules, at_most_once = :at_most_once WHERE id = :worker

-- By position, for many tasks at once.
-- name: note_parameters
INSERT INTO litequeue_parameters (task, names) VALUES (?, ?)
ON CONFLICT (task) DO UPDATE SET names = excluded.names WHERE names IS NOT excluded.names

-- name: parameters_of
SELECT names FROM litequeue_parameters WHERE task = :task

-- name: beat
UPDATE litequeue_workers SET beats = (beats + 1) % 1000000, beat_at = :now
WHERE id = :worker AND (SELECT value FROM litequeue_meta WHERE name = 'schema_version') = :version
RETURNING EXISTS (SELECT 1 FROM litequeue_workers WHERE id <> :worker)
       OR EXISTS (SELECT 1 FROM litequeue_jobs
                  WHERE state = 3 AND worker NOT IN (SELECT id FROM litequeue_workers))

-- name: workers
SELECT id, token, identity, queues, tasks, threads, coroutines, started_at, beats, beat_at,
       (SELECT count(*) FROM litequeue_jobs WHERE state = 3 AND worker = litequeue_workers.id), modules
FROM litequeue_workers ORDER BY id

-- name: unregister
DELETE FROM litequeue_workers WHERE id = :worker
RETURNING id

-- name: runs_of
SELECT CAST(id AS TEXT), attempt, deaths, task FROM litequeue_jobs
WHERE state = 3 AND worker = +:worker ORDER BY id

-- The tasks whose runs may not be repeated, as that worker has declared them; of a worker that is not on record any more,
-- as any other has.
-- name: at_most_once
SELECT at_most_once FROM litequeue_workers
WHERE id = :worker OR NOT EXISTS (SELECT 1 FROM litequeue_workers WHERE id = :worker)

-- name: ownerless
SELECT DISTINCT worker FROM litequeue_jobs
WHERE state = 3 AND worker NOT IN (SELECT id FROM litequeue_workers)

-- Workers on record, and those that are not but hold running jobs.
-- name: everyone
SELECT id FROM litequeue_workers UNION SELECT worker FROM litequeue_jobs WHERE state = 3

-- name: orphans
SELECT 'errors', count(*) FROM litequeue_errors WHERE NOT EXISTS (SELECT 1 FROM litequeue_jobs WHERE id = job)
UNION ALL
SELECT 'payloads', count(*) FROM litequeue_payloads WHERE NOT EXISTS (SELECT 1 FROM litequeue_jobs WHERE id = job)
UNION ALL
SELECT 'results', count(*) FROM litequeue_results WHERE NOT EXISTS (SELECT 1 FROM litequeue_jobs WHERE id = job)
UNION ALL
SELECT 'times of keys', count(*) FROM litequeue_timed_keys WHERE NOT EXISTS (SELECT 1 FROM litequeue_jobs WHERE id = job)

-- name: drop_orphaned_errors
DELETE FROM litequeue_errors WHERE NOT EXISTS (SELECT 1 FROM litequeue_jobs WHERE id = job)

-- name: drop_orphaned_payloads
DELETE FROM litequeue_payloads WHERE NOT EXISTS (SELECT 1 FROM litequeue_jobs WHERE id = job)

-- name: drop_orphaned_results
DELETE FROM litequeue_results WHERE NOT EXISTS (SELECT 1 FROM litequeue_jobs WHERE id = job)

-- name: drop_orphaned_timed_keys
DELETE FROM litequeue_timed_keys WHERE NOT EXISTS (SELECT 1 FROM litequeue_jobs WHERE id = job)

-- The application's own, too; but not those that a PRIMARY KEY or UNIQUE brings.
-- name: indexes
SELECT sql FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL

-- name: forget_indexes
DELETE FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL

-- A time further ahead than anyone sets was set before the clock was set back.
-- name: another_shrinks
SELECT 1 FROM litequeue_workers WHERE id <> :worker AND shrinks_until > :now AND shrinks_until <= :until

-- name: shrink_alone
UPDATE litequeue_workers SET shrinks_until = :until WHERE id = :worker
