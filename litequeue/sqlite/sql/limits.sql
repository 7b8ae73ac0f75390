-- What may start: the rules as they stand, and what is taken of them. See the gate in sqlite/limits/.
-- name: rules_word
SELECT value FROM litequeue_meta WHERE name = 'rules'

-- name: stored_limits
SELECT name, declared, operator, operator_at FROM litequeue_limits

-- name: stored_limit
SELECT name, declared, operator, operator_at FROM litequeue_limits WHERE name = :name

-- name: stored_tasks
SELECT name, rules FROM litequeue_tasks

-- name: stored_pauses
SELECT kind, name, paused_at FROM litequeue_pauses

-- name: declare_limit
INSERT INTO litequeue_limits (name, declared) VALUES (:name, :declared)
ON CONFLICT (name) DO UPDATE SET declared = excluded.declared

-- name: declare_task
INSERT INTO litequeue_tasks (name, rules) VALUES (:name, :rules)
ON CONFLICT (name) DO UPDATE SET rules = excluded.rules

-- name: undeclare_task
DELETE FROM litequeue_tasks WHERE name = :name

-- What an operator sets, and what stands still.
-- name: set_limit
UPDATE litequeue_limits SET operator = :operator, operator_at = :at WHERE name = :name

-- name: remove_limit
DELETE FROM litequeue_limits WHERE name = :name

-- name: drop_starts_of
DELETE FROM litequeue_starts WHERE limit_name = :name

-- name: pause
INSERT INTO litequeue_pauses (kind, name, paused_at) VALUES (:kind, :name, :now) ON CONFLICT (kind, name) DO NOTHING
RETURNING 1

-- name: resume
DELETE FROM litequeue_pauses WHERE kind = :kind AND name = :name RETURNING 1

-- name: parked_of_limits
SELECT limit_name, count(*) FROM litequeue_parked GROUP BY limit_name

-- name: full_keys_of_limits
SELECT limit_name, count(DISTINCT key) FROM litequeue_full_keys AS lane
WHERE key <> '' AND EXISTS (SELECT 1 FROM litequeue_parked AS parked
                            WHERE parked.limit_name = lane.limit_name AND parked.key = lane.key AND parked.queue = lane.queue
                                  AND parked.task = lane.task)
GROUP BY limit_name

-- What jobs say of what they take.
-- name: keep_takes
INSERT OR REPLACE INTO litequeue_limited (job, takes) VALUES (?, ?)

-- name: drop_takes
DELETE FROM litequeue_limited WHERE job = ?

-- name: takes_of
SELECT job, takes FROM litequeue_limited WHERE job IN (SELECT value FROM json_each(:ids))

-- What runs of these tasks, in any version, by what it takes; and functions that go on after their end.
-- name: running_takes
SELECT job.task, limited.takes, count(*)
FROM litequeue_jobs AS job LEFT JOIN litequeue_limited AS limited ON limited.job = job.id
WHERE job.state = 3 AND substr(job.task, 1, instr(job.task || '@', '@') - 1) IN (SELECT value FROM json_each(:tasks))
GROUP BY job.task, limited.takes
UNION ALL
SELECT task, takes, 1 FROM litequeue_left_behind
WHERE substr(task, 1, instr(task || '@', '@') - 1) IN (SELECT value FROM json_each(:tasks))

-- What one worker runs of queues with slots, and of tasks that use resources; `send@2` is a version of `send`.
-- name: runs_that_take
SELECT CAST(id AS TEXT), attempt, queue, task FROM litequeue_jobs
WHERE state = 3 AND worker = +:worker
  AND (queue IN (SELECT value FROM json_each(:queues))
       OR substr(task, 1, instr(task || '@', '@') - 1) IN (SELECT value FROM json_each(:tasks)))

-- name: leave_behind
INSERT OR REPLACE INTO litequeue_left_behind (job, attempt, worker, task, takes)
SELECT id, attempt, worker, task, (SELECT takes FROM litequeue_limited WHERE job = litequeue_jobs.id)
FROM litequeue_jobs WHERE id = ? AND attempt = ? AND state = 3

-- name: is_gone
DELETE FROM litequeue_left_behind WHERE job = ? AND attempt = ?

-- name: charge
UPDATE litequeue_starts SET count = count + :more WHERE limit_name = :limit AND key = :key AND at = :at
RETURNING 1

-- name: look_at_key
UPDATE litequeue_full_keys SET look_at = 0.0 WHERE limit_name = ? AND key = ?

-- Of jobs that will not start, though they may have been let in: others of their keys are.
-- name: look_at_keys_of
UPDATE litequeue_full_keys SET look_at = 0.0
WHERE (limit_name, key) IN
    (SELECT take.key, json_extract(take.value, '$[0]')
     FROM json_each(:ids) AS asked CROSS JOIN litequeue_limited AS limited ON limited.job = asked.value
     CROSS JOIN json_each(CASE WHEN json_valid(limited.takes) THEN limited.takes ELSE '{}' END) AS take
     WHERE take.type = 'array')

-- name: forget_left_behind
DELETE FROM litequeue_left_behind WHERE worker = :worker RETURNING job

-- name: starts
SELECT at, count FROM litequeue_starts WHERE limit_name = :limit AND key = :key AND at > :edge AND at <= :latest ORDER BY at

-- name: count_start
INSERT INTO litequeue_starts (limit_name, key, at, count) VALUES (?, ?, ?, ?)
ON CONFLICT (limit_name, key, at) DO UPDATE SET count = count + excluded.count

-- Of all limits and keys, what counts for none any more, some at a time: most keys never start again.
-- name: forget_old_starts
DELETE FROM litequeue_starts WHERE (limit_name, key, at) IN
    (SELECT limit_name, key, at FROM litequeue_starts WHERE at <= :edge ORDER BY at LIMIT CAST(:most AS INTEGER))

-- name: forget_starts
DELETE FROM litequeue_starts WHERE limit_name = ? AND key = ? AND at <= ?

-- name: take_off_start
UPDATE litequeue_starts SET count = count - ? WHERE limit_name = ? AND key = ? AND at = ?

-- name: ordered_holders
SELECT ordered.key, ordered.job FROM json_each(:keys) AS asked
CROSS JOIN litequeue_ordered AS ordered ON ordered.limit_name = :limit AND ordered.key = asked.value
CROSS JOIN litequeue_jobs AS job ON job.id = ordered.job AND job.state < 4

-- name: hold_order
INSERT OR REPLACE INTO litequeue_ordered (limit_name, key, job) VALUES (?, ?, ?)

-- Of jobs that have ended for good.
-- name: leave_order
DELETE FROM litequeue_ordered
WHERE job IN (SELECT value FROM json_each(:ids)) AND NOT EXISTS (SELECT 1 FROM litequeue_jobs WHERE id = job AND state < 4)
RETURNING limit_name, key

-- Parking: out of the ready jobs, and back. By position.
-- name: park
UPDATE litequeue_jobs SET state = 2 WHERE id IN (SELECT value FROM json_each(:ids)) AND state = 1

-- name: note_parked
INSERT OR REPLACE INTO litequeue_parked (job, limit_name, key, queue, task, rank) VALUES (?, ?, ?, ?, ?, ?)

-- Of the first :most jobs of a lane those that take the same, so are of the same full key. MATERIALIZED: read before written.
-- name: park_alike
WITH found (job, rank) AS MATERIALIZED (
    SELECT head.id, head.rank
    FROM (SELECT id, -priority AS rank FROM litequeue_jobs WHERE state = 1 AND queue = +:queue AND task = +:task
          ORDER BY -priority, id LIMIT CAST(:most AS INTEGER)) AS head
    CROSS JOIN litequeue_limited AS limited ON limited.job = head.id AND limited.takes = :takes)
INSERT OR REPLACE INTO litequeue_parked (job, limit_name, key, queue, task, rank)
SELECT job, :limit, :key, :queue, :task, rank FROM found
RETURNING job

-- name: note_full_key
INSERT INTO litequeue_full_keys (limit_name, key, queue, task, look_at) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (limit_name, key, queue, task) DO UPDATE SET look_at = min(look_at, excluded.look_at)

-- The first so many of those that are parked in each lane of these keys: [limit, key].
-- name: first_parked
SELECT parked.job
FROM json_each(:keys) AS asked
CROSS JOIN litequeue_full_keys AS lane ON lane.limit_name = json_extract(asked.value, '$[0]') AND lane.key = json_extract(asked.value, '$[1]')
CROSS JOIN litequeue_parked AS parked ON parked.job IN
    (SELECT job FROM litequeue_parked
     WHERE limit_name = lane.limit_name AND key = lane.key AND queue = lane.queue AND task = lane.task
     ORDER BY rank, job LIMIT CAST(:count AS INTEGER))

-- name: bring_back
UPDATE litequeue_jobs SET state = 1 WHERE id IN (SELECT value FROM json_each(:ids)) AND state = 2

-- name: forget_parked
DELETE FROM litequeue_parked WHERE job IN (SELECT value FROM json_each(:ids))

-- name: unpark
DELETE FROM litequeue_parked WHERE job = :id

-- Which of these keys have parked jobs, with the first of each lane.
-- name: heads_of_keys
SELECT lane.key, lane.queue, lane.task, first.rank, first.job
FROM json_each(:keys) AS asked
CROSS JOIN litequeue_full_keys AS lane ON lane.limit_name = :limit AND lane.key = asked.value
CROSS JOIN litequeue_parked AS first ON first.job =
    (SELECT job FROM litequeue_parked
     WHERE limit_name = lane.limit_name AND key = lane.key AND queue = lane.queue AND task = lane.task
     ORDER BY rank, job LIMIT 1)

-- name: keys_due
SELECT limit_name, key, task FROM litequeue_full_keys WHERE look_at <= :now ORDER BY look_at LIMIT CAST(:most AS INTEGER)

-- name: next_key_look
SELECT min(look_at) FROM litequeue_full_keys

-- name: look_later
UPDATE litequeue_full_keys SET look_at = ? WHERE limit_name = ? AND key = ?

-- name: put_off_looks
UPDATE litequeue_full_keys SET look_at = :later WHERE look_at < :now

-- name: forget_empty_keys
DELETE FROM litequeue_full_keys
WHERE limit_name = ? AND key = ? AND NOT EXISTS
    (SELECT 1 FROM litequeue_parked AS parked WHERE parked.limit_name = litequeue_full_keys.limit_name AND parked.key = litequeue_full_keys.key
     AND parked.queue = litequeue_full_keys.queue AND parked.task = litequeue_full_keys.task)

-- name: look_at_all_keys
UPDATE litequeue_full_keys SET look_at = :now WHERE look_at > :now AND (:limit IS NULL OR limit_name = :limit)

-- After a reboot: all windows are full from now on, and every key is looked at.
-- name: drop_starts
DELETE FROM litequeue_starts

-- name: restart_keys
UPDATE litequeue_full_keys SET look_at = :now

-- The jobs that a claim has before it, without their payloads.
-- name: before_gate
SELECT job.id, job.task, job.queue, -job.priority, limited.takes
FROM json_each(:ids) AS picked CROSS JOIN litequeue_jobs AS job ON job.id = picked.value AND job.state = 1
LEFT JOIN litequeue_limited AS limited ON limited.job = job.id
ORDER BY picked.key

-- How many jobs of a queue each worker runs.
-- name: running_of_queue
SELECT worker, count(*) FROM litequeue_jobs WHERE state = 3 AND queue = :queue GROUP BY worker

-- name: tasks_among
SELECT CAST(id AS TEXT), task FROM litequeue_jobs WHERE id IN (SELECT value FROM json_each(:ids))

-- Of a job that gets other arguments before it begins.
-- name: drop_order
DELETE FROM litequeue_ordered WHERE job = :id RETURNING limit_name, key
