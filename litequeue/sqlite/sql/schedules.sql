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
