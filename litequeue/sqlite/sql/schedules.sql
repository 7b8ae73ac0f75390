-- What is due, a page at a time behind the last one read. A name may not be UTF-8: so it is given back as bytes.
-- name: due_schedules
SELECT name, hex(name), task, trigger, catch_up, next_at, length(payload)
FROM litequeue_schedules
WHERE next_at IS NOT NULL AND paused = 0 AND next_at <= :now AND (next_at, name) > (:at, CAST(:after AS TEXT))
      AND task IN (SELECT value FROM json_each(:tasks))
ORDER BY next_at, name LIMIT :limit

-- Those whose next tick was computed when the clock stood further ahead than now, or by someone else.
-- name: schedules_ahead
SELECT name, hex(name), task, trigger, catch_up, next_at, length(payload)
FROM litequeue_schedules
WHERE next_at IS NOT NULL AND paused = 0 AND next_at > :now AND (next_at, name) > (:at, CAST(:after AS TEXT))
      AND coalesce(computed_at > :now, 1) AND task IN (SELECT value FROM json_each(:tasks))
ORDER BY next_at, name LIMIT :limit

-- name: next_schedule
SELECT min(next_at) FROM litequeue_schedules
WHERE next_at IS NOT NULL AND paused = 0 AND task IN (SELECT value FROM json_each(:tasks))
      AND hex(name) NOT IN (SELECT value FROM json_each(:broken))

-- name: schedules
SELECT name, task, queue, payload, priority, trigger, declared, catch_up, paused, created_at, next_at, last_at,
       CAST(last_job AS TEXT)
FROM litequeue_schedules ORDER BY name

-- name: schedule
SELECT name, task, queue, payload, priority, trigger, declared, catch_up, paused, created_at, next_at, last_at,
       CAST(last_job AS TEXT)
FROM litequeue_schedules WHERE name = :name

-- name: named_schedules
SELECT name, task, queue, payload, priority, trigger, declared, catch_up, paused, created_at, next_at, last_at,
       CAST(last_job AS TEXT)
FROM litequeue_schedules WHERE name IN (SELECT value FROM json_each(:names))

-- name: declared_schedules
SELECT name FROM litequeue_schedules
WHERE declared = 1 AND task IN (SELECT value FROM json_each(:tasks))

-- name: some_schedules
SELECT name, (SELECT count(*) FROM litequeue_schedules) FROM litequeue_schedules ORDER BY name LIMIT :limit

-- name: add_schedule
INSERT INTO litequeue_schedules
    (name, task, queue, payload, priority, trigger, declared, catch_up, created_at, next_at, computed_at)
VALUES (:name, :task, :queue, :payload, :priority, :trigger, :declared, :catch_up, :now, :next_at, :now)

-- name: change_schedule
UPDATE litequeue_schedules
SET task = :task, queue = :queue, payload = :payload, priority = :priority, trigger = :trigger, declared = :declared,
    catch_up = :catch_up, next_at = :next_at, computed_at = CASE WHEN trigger = :trigger THEN computed_at ELSE :now END
WHERE name = :name

-- name: remove_schedule
DELETE FROM litequeue_schedules WHERE name = :name
RETURNING name

-- name: pause_schedule
UPDATE litequeue_schedules SET paused = 1 WHERE name = :name
RETURNING name

-- name: resume_schedule
UPDATE litequeue_schedules SET paused = 0, next_at = :next_at, computed_at = :now WHERE name = :name
RETURNING name

-- name: advance_schedule
UPDATE litequeue_schedules
SET next_at = :next_at, computed_at = :now,
    last_at = coalesce(:last_at, last_at), last_job = coalesce(:last_job, last_job)
WHERE name = :name

-- name: note_triggered
UPDATE litequeue_schedules SET last_at = :now, last_job = :last_job WHERE name = :name

-- name: forget_computed_at
UPDATE litequeue_schedules SET computed_at = NULL WHERE computed_at IS NOT NULL
