-- name: register
INSERT INTO litequeue_workers
    (token, identity, queues, tasks, modules, at_most_once, threads, coroutines, slots, offers, started_at, beat_at)
VALUES (:token, :identity, :queues, :tasks, :modules, :at_most_once, :threads, :coroutines, :slots, :offers, :now, :now)
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
       (SELECT count(*) FROM litequeue_jobs WHERE state = 3 AND worker = litequeue_workers.id), modules, slots, offers
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
SELECT 'emitted values', count(*) FROM litequeue_streams WHERE NOT EXISTS (SELECT 1 FROM litequeue_jobs WHERE id = job)
UNION ALL
SELECT 'heartbeats', count(*) FROM litequeue_heartbeats WHERE NOT EXISTS (SELECT 1 FROM litequeue_jobs WHERE id = job)
UNION ALL
SELECT 'costs and keys of limits', count(*) FROM litequeue_limited WHERE NOT EXISTS (SELECT 1 FROM litequeue_jobs WHERE id = job)
UNION ALL
SELECT 'places of parked jobs', count(*) FROM litequeue_parked WHERE NOT EXISTS (SELECT 1 FROM litequeue_jobs WHERE id = job AND state = 2)
UNION ALL
SELECT 'places in an order', count(*) FROM litequeue_ordered WHERE NOT EXISTS (SELECT 1 FROM litequeue_jobs WHERE id = job AND state < 4)
UNION ALL
SELECT 'functions left behind', count(*) FROM litequeue_left_behind WHERE NOT EXISTS (SELECT 1 FROM litequeue_workers WHERE id = worker)
UNION ALL
SELECT 'logs of runs', count(*) FROM litequeue_run_logs WHERE NOT EXISTS (SELECT 1 FROM litequeue_jobs WHERE id = job)
UNION ALL
SELECT 'followers of logs', count(*) FROM litequeue_log_followers WHERE NOT EXISTS (SELECT 1 FROM litequeue_jobs WHERE id = job)
UNION ALL
SELECT 'times of keys', count(*) FROM litequeue_timed_keys WHERE NOT EXISTS (SELECT 1 FROM litequeue_jobs WHERE id = job)
UNION ALL
SELECT 'starts', count(*) FROM litequeue_starts WHERE NOT EXISTS (SELECT 1 FROM litequeue_limits WHERE name = limit_name)
UNION ALL
SELECT 'edges', count(*) FROM litequeue_edges
WHERE NOT (EXISTS (SELECT 1 FROM litequeue_jobs WHERE id = parent) OR EXISTS (SELECT 1 FROM litequeue_groups WHERE id = -parent))
      OR NOT (EXISTS (SELECT 1 FROM litequeue_jobs WHERE id = child) OR EXISTS (SELECT 1 FROM litequeue_groups WHERE id = -child))
UNION ALL
SELECT 'groups', count(*) FROM litequeue_groups WHERE members > 0 AND NOT EXISTS
    (SELECT 1 FROM litequeue_edges WHERE child = -litequeue_groups.id
     AND (EXISTS (SELECT 1 FROM litequeue_jobs WHERE id = parent) OR EXISTS (SELECT 1 FROM litequeue_groups WHERE id = -parent)))
UNION ALL
SELECT 'dependents', count(*) FROM litequeue_dependents
WHERE NOT (EXISTS (SELECT 1 FROM litequeue_jobs WHERE id = node) OR EXISTS (SELECT 1 FROM litequeue_groups WHERE id = -node))
UNION ALL
SELECT 'keys of compositions', count(*) FROM litequeue_composition_keys
WHERE NOT (EXISTS (SELECT 1 FROM litequeue_jobs WHERE id = node) OR EXISTS (SELECT 1 FROM litequeue_groups WHERE id = -node))
UNION ALL
SELECT 'ends to be told', count(*) FROM litequeue_unspread
WHERE NOT (EXISTS (SELECT 1 FROM litequeue_jobs WHERE id = node) OR EXISTS (SELECT 1 FROM litequeue_groups WHERE id = -node))

-- name: drop_orphaned_errors
DELETE FROM litequeue_errors WHERE NOT EXISTS (SELECT 1 FROM litequeue_jobs WHERE id = job)

-- name: drop_orphaned_payloads
DELETE FROM litequeue_payloads WHERE NOT EXISTS (SELECT 1 FROM litequeue_jobs WHERE id = job)

-- name: drop_orphaned_results
DELETE FROM litequeue_results WHERE NOT EXISTS (SELECT 1 FROM litequeue_jobs WHERE id = job)

-- name: drop_orphaned_streams
DELETE FROM litequeue_streams WHERE NOT EXISTS (SELECT 1 FROM litequeue_jobs WHERE id = job)

-- name: drop_orphaned_heartbeats
DELETE FROM litequeue_heartbeats WHERE NOT EXISTS (SELECT 1 FROM litequeue_jobs WHERE id = job)

-- name: drop_orphaned_takes
DELETE FROM litequeue_limited WHERE NOT EXISTS (SELECT 1 FROM litequeue_jobs WHERE id = job)

-- name: drop_orphaned_parked
DELETE FROM litequeue_parked WHERE NOT EXISTS (SELECT 1 FROM litequeue_jobs WHERE id = job AND state = 2)

-- name: drop_orphaned_orders
DELETE FROM litequeue_ordered WHERE NOT EXISTS (SELECT 1 FROM litequeue_jobs WHERE id = job AND state < 4)

-- name: drop_orphaned_left_behind
DELETE FROM litequeue_left_behind WHERE NOT EXISTS (SELECT 1 FROM litequeue_workers WHERE id = worker)

-- name: drop_orphaned_logs
DELETE FROM litequeue_run_logs WHERE NOT EXISTS (SELECT 1 FROM litequeue_jobs WHERE id = job)

-- name: drop_orphaned_log_followers
DELETE FROM litequeue_log_followers WHERE NOT EXISTS (SELECT 1 FROM litequeue_jobs WHERE id = job)

-- name: drop_orphaned_timed_keys
DELETE FROM litequeue_timed_keys WHERE NOT EXISTS (SELECT 1 FROM litequeue_jobs WHERE id = job)

-- name: drop_orphaned_starts
DELETE FROM litequeue_starts WHERE NOT EXISTS (SELECT 1 FROM litequeue_limits WHERE name = limit_name)

-- Jobs that wait for nothing: someone else has deleted what they waited for; and parked ones at which nothing looks.
-- name: stuck_jobs
SELECT (SELECT count(*) FROM litequeue_jobs INDEXED BY litequeue_jobs_counted
        WHERE state <> 1 AND state <> 3 AND state <> 4 AND state = 2
              AND NOT EXISTS (SELECT 1 FROM litequeue_parked WHERE job = litequeue_jobs.id)
              AND NOT EXISTS (SELECT 1 FROM litequeue_serial WHERE job = litequeue_jobs.id AND held = 1)
              AND NOT EXISTS (SELECT 1 FROM litequeue_dependents WHERE node = litequeue_jobs.id AND waits = 1)),
       (SELECT count(*) FROM litequeue_parked AS parked WHERE NOT EXISTS
        (SELECT 1 FROM litequeue_full_keys AS lane WHERE lane.limit_name = parked.limit_name AND lane.key = parked.key
         AND lane.queue = parked.queue AND lane.task = parked.task))

-- name: free_stuck
UPDATE litequeue_jobs SET state = 1 WHERE id IN
   (SELECT id FROM litequeue_jobs AS job INDEXED BY litequeue_jobs_counted
    WHERE state <> 1 AND state <> 3 AND state <> 4 AND state = 2
          AND NOT EXISTS (SELECT 1 FROM litequeue_parked AS parked WHERE parked.job = job.id)
          AND NOT EXISTS (SELECT 1 FROM litequeue_serial AS line WHERE line.job = job.id AND held = 1)
          AND NOT EXISTS (SELECT 1 FROM litequeue_dependents WHERE node = job.id AND waits = 1))

-- name: look_at_parked
INSERT OR IGNORE INTO litequeue_full_keys (limit_name, key, queue, task, look_at)
SELECT DISTINCT limit_name, key, queue, task, 0.0 FROM litequeue_parked

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
