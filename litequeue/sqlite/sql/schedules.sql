-- What is due, a page at a time behind the last one read. A name may not be UTF-8: so it is given back as bytes.
-- name: due_schedules
SELECT name, hex(name), task, trigger, catch_up, until, next_at, length(payload)
FROM litequeue_schedules
WHERE next_at IS NOT NULL AND paused = 0 AND next_at <= :now AND (next_at, name) > (:at, CAST(:after AS TEXT))
      AND task IN (SELECT value FROM json_each(:tasks))
ORDER BY next_at, name LIMIT :limit

-- Those whose next tick was computed when the clock stood further ahead than now, or by someone else.
-- name: schedules_ahead
SELECT name, hex(name), task, trigger, catch_up, until, next_at, length(payload)
FROM litequeue_schedules
WHERE next_at IS NOT NULL AND paused = 0 AND next_at > :now AND (next_at, name) > (:at, CAST(:after AS TEXT))
      AND coalesce(computed_at > :now, 1) AND task IN (SELECT value FROM json_each(:tasks))
ORDER BY next_at, name LIMIT :limit

-- name: next_schedule
SELECT min(next_at) FROM litequeue_schedules
WHERE next_at IS NOT NULL AND paused = 0 AND task IN (SELECT value FROM json_each(:tasks))
      AND hex(name) NOT IN (SELECT value FROM json_each(:broken))

-- name: schedules
SELECT name, task, queue, payload, priority, trigger, overlap, catch_up, until, max_runs, expires, module, declared,
       paused, created_at, next_at, last_at, CAST(last_job AS TEXT), runs, skipped, skipping, skipping_since
FROM litequeue_schedules ORDER BY name

-- name: schedule
SELECT name, task, queue, payload, priority, trigger, overlap, catch_up, until, max_runs, expires, module, declared,
       paused, created_at, next_at, last_at, CAST(last_job AS TEXT), runs, skipped, skipping, skipping_since
FROM litequeue_schedules WHERE name = :name

-- name: named_schedules
SELECT name, task, queue, payload, priority, trigger, overlap, catch_up, until, max_runs, expires, module, declared,
       paused, created_at, next_at, last_at, CAST(last_job AS TEXT), runs, skipped, skipping, skipping_since
FROM litequeue_schedules WHERE name IN (SELECT value FROM json_each(:names))

-- name: declaring_modules
WITH RECURSIVE declaring (module) AS (
    SELECT min(module) FROM litequeue_schedules WHERE module IS NOT NULL
    UNION ALL
    SELECT (SELECT min(module) FROM litequeue_schedules WHERE module IS NOT NULL AND module > declaring.module)
    FROM declaring WHERE declaring.module IS NOT NULL)
SELECT module FROM declaring WHERE module IS NOT NULL

-- name: declared_schedules
SELECT name, task, module FROM litequeue_schedules
WHERE module IS NOT NULL AND module IN (SELECT value FROM json_each(:modules))

-- name: some_schedules
SELECT name, (SELECT count(*) FROM litequeue_schedules) FROM litequeue_schedules ORDER BY name LIMIT :limit

-- name: add_schedule
INSERT INTO litequeue_schedules
    (name, task, queue, payload, priority, trigger, overlap, catch_up, until, max_runs, expires, module, declared,
     created_at, next_at, computed_at)
VALUES (:name, :task, :queue, :payload, :priority, :trigger, :overlap, :catch_up, :until, :max_runs, :expires, :module,
        :declared, :now, :next_at, :now)

-- name: change_schedule
UPDATE litequeue_schedules
SET task = :task, queue = :queue, payload = :payload, priority = :priority, trigger = :trigger, overlap = :overlap,
    catch_up = :catch_up, until = :until, max_runs = :max_runs, expires = :expires,
    module = coalesce(:module, module), declared = coalesce(:declared, declared), next_at = :next_at,
    computed_at = CASE WHEN trigger = :trigger THEN computed_at ELSE :now END
WHERE name = :name

-- name: move_schedule
UPDATE litequeue_schedules SET module = :module WHERE name = :name AND declared = :declared

-- name: remove_schedule
DELETE FROM litequeue_schedules WHERE name = :name
RETURNING name

-- name: remove_declared
DELETE FROM litequeue_schedules
WHERE name IN (SELECT value FROM json_each(:names)) AND module IN (SELECT value FROM json_each(:modules))

-- name: pause_schedule
UPDATE litequeue_schedules SET paused = 1 WHERE name = :name
RETURNING name

-- name: resume_schedule
UPDATE litequeue_schedules SET paused = 0, next_at = :next_at, computed_at = :now WHERE name = :name
RETURNING name

-- name: advance_schedule
UPDATE litequeue_schedules
SET next_at = :next_at, computed_at = :now, last_at = coalesce(:last_at, last_at),
    last_job = coalesce(:last_job, last_job), runs = runs + :runs, skipped = skipped + :skipped,
    skipping = :skipping, skipping_since = :skipping_since
WHERE name = :name

-- name: note_triggered
UPDATE litequeue_schedules SET last_at = :now, last_job = :last_job WHERE name = :name

-- name: forget_computed_at
UPDATE litequeue_schedules SET computed_at = NULL WHERE computed_at IS NOT NULL

-- What a tick must know of the schedule's last job: nothing, where that has ended.
-- name: unfinished
SELECT CAST(id AS TEXT), state, begun FROM litequeue_jobs WHERE id = :id AND state < 4

-- Jobs that run one after another. Those whose first has ended are looked for by each claim while there are any.
-- name: serial_ended
WITH RECURSIVE one (schedule) AS (
    SELECT min(schedule) FROM litequeue_serial
    UNION ALL
    SELECT (SELECT min(schedule) FROM litequeue_serial WHERE schedule > one.schedule)
    FROM one WHERE one.schedule IS NOT NULL)
SELECT schedule FROM one
WHERE schedule IS NOT NULL AND NOT EXISTS (
    SELECT 1 FROM litequeue_jobs
    WHERE id = (SELECT min(job) FROM litequeue_serial WHERE schedule = one.schedule) AND state < 4)

-- name: drop_ended_serial
DELETE FROM litequeue_serial
WHERE schedule = :schedule AND job < coalesce(
    (SELECT serial.job FROM litequeue_serial AS serial CROSS JOIN litequeue_jobs AS job ON job.id = serial.job
     WHERE serial.schedule = :schedule AND job.state < 4 ORDER BY serial.job LIMIT 1), 9223372036854775807)

-- name: begin_serial
UPDATE litequeue_jobs SET state = CASE WHEN run_at > :now THEN 0 ELSE 1 END
WHERE id = (SELECT min(job) FROM litequeue_serial WHERE schedule = :schedule) AND state = 2

-- name: serial
SELECT job FROM litequeue_serial WHERE schedule = :schedule LIMIT 1

-- name: add_serial
INSERT OR IGNORE INTO litequeue_serial (schedule, job) VALUES (:schedule, :job)

-- name: hold
UPDATE litequeue_jobs SET state = 2 WHERE id = :id AND state < 2
