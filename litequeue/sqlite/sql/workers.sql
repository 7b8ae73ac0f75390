-- name: register
INSERT INTO litequeue_workers
    (token, identity, queues, tasks, modules, threads, coroutines, slots, offers, started_at, beat_at)
VALUES (:token, :identity, :queues, :tasks, :modules, :threads, :coroutines, :slots, :offers, :now, :now)
RETURNING id

-- name: serve_tasks
UPDATE litequeue_workers SET tasks = :tasks, modules = :modules WHERE id = :worker

-- name: beat
UPDATE litequeue_workers SET beats = (beats + 1) % 1000000, beat_at = :now
WHERE id = :worker AND (SELECT value FROM litequeue_meta WHERE name = 'schema_version') = :version
RETURNING EXISTS (SELECT 1 FROM litequeue_workers WHERE id <> :worker)
       OR EXISTS (SELECT 1 FROM litequeue_jobs
                  WHERE state = 3 AND worker NOT IN (SELECT id FROM litequeue_workers))

-- name: workers
SELECT id, token, identity, queues, tasks, threads, coroutines, started_at, beats, beat_at,
       (SELECT count(*) FROM litequeue_jobs WHERE state = 3 AND worker = litequeue_workers.id), modules, slots, offers
FROM litequeue_workers ORDER BY id

-- name: unregister
DELETE FROM litequeue_workers WHERE id = :worker
RETURNING id

-- name: runs_of
SELECT CAST(id AS TEXT), attempt, deaths FROM litequeue_jobs
WHERE state = 3 AND worker = +:worker ORDER BY id

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

-- name: drop_orphaned_errors
DELETE FROM litequeue_errors WHERE NOT EXISTS (SELECT 1 FROM litequeue_jobs WHERE id = job)

-- name: drop_orphaned_payloads
DELETE FROM litequeue_payloads WHERE NOT EXISTS (SELECT 1 FROM litequeue_jobs WHERE id = job)

-- name: drop_orphaned_results
DELETE FROM litequeue_results WHERE NOT EXISTS (SELECT 1 FROM litequeue_jobs WHERE id = job)

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
