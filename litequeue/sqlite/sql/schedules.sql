-- What is due, a page at a time behind the last one read. A name may not be UTF-8: so it is given back as bytes.
-- name: due_schedules
SELECT name, hex(name), task, trigger, catch_up, until, next_at, length(payload) + coalesce(length(options), 0)
FROM litequeue_schedules
WHERE next_at IS NOT NULL AND paused = 0 AND next_at <= :now AND (next_at, name) > (:at, CAST(:after AS TEXT))
      AND task IN (SELECT value FROM json_each(:tasks))
ORDER BY next_at, name LIMIT :limit

-- Those whose next tick was computed when the clock stood further ahead than now, or by someone else.
-- name: schedules_ahead
SELECT name, hex(name), task, trigger, catch_up, until, next_at, length(payload) + coalesce(length(options), 0)
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
       paused, created_at, next_at, last_at, CAST(last_job AS TEXT), runs, skipped, skipping, skipping_since, options
FROM litequeue_schedules ORDER BY name

-- name: schedule
SELECT name, task, queue, payload, priority, trigger, overlap, catch_up, until, max_runs, expires, module, declared,
       paused, created_at, next_at, last_at, CAST(last_job AS TEXT), runs, skipped, skipping, skipping_since, options
FROM litequeue_schedules WHERE name = :name

-- name: named_schedules
SELECT name, task, queue, payload, priority, trigger, overlap, catch_up, until, max_runs, expires, module, declared,
       paused, created_at, next_at, last_at, CAST(last_job AS TEXT), runs, skipped, skipping, skipping_since, options
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
    (name, task, queue, payload, priority, trigger, overlap, catch_up, until, max_runs, expires, options, module, declared,
     created_at, next_at, computed_at)
VALUES (:name, :task, :queue, :payload, :priority, :trigger, :overlap, :catch_up, :until, :max_runs, :expires, :options,
        :module, :declared, :now, :next_at, :now)

-- name: change_schedule
UPDATE litequeue_schedules
SET task = :task, queue = :queue, payload = :payload, priority = :priority, trigger = :trigger, overlap = :overlap,
    catch_up = :catch_up, until = :until, max_runs = :max_runs, expires = :expires, options = :options,
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
SELECT CAST(id AS TEXT), task, state, begun, key FROM litequeue_jobs WHERE id = :id AND state < 4

-- Lines: jobs of a schedule that run one after another. Whatever ends a job of a schedule takes it out of its line, and
-- lets the next one begin where none is left that may.
-- name: leave_line
DELETE FROM litequeue_serial
WHERE job IN (SELECT value FROM json_each(:ids))
      AND NOT EXISTS (SELECT 1 FROM litequeue_jobs WHERE id = litequeue_serial.job AND state < 4)
RETURNING schedule, held

-- name: next_in_line
UPDATE litequeue_serial SET held = 0
WHERE job IN (
    SELECT (SELECT job FROM litequeue_serial WHERE schedule = line.value AND held = 1 ORDER BY job LIMIT 1)
    FROM json_each(:schedules) AS line
    WHERE NOT EXISTS (SELECT 1 FROM litequeue_serial WHERE schedule = line.value AND held = 0))
RETURNING job

-- name: begin_in_line
UPDATE litequeue_jobs SET state = CASE WHEN run_at > :now THEN 0 ELSE 1 END
WHERE id IN (SELECT value FROM json_each(:ids)) AND state = 2
RETURNING id

-- name: free_in_line
SELECT job FROM litequeue_serial WHERE schedule = :schedule AND held = 0

-- name: join_line
INSERT INTO litequeue_serial (job, schedule, held)
SELECT :job, :schedule, EXISTS (SELECT 1 FROM litequeue_serial WHERE schedule = :schedule)
RETURNING held

-- A job that was stored when its schedule let them overlap, or beside its ticks.
-- name: join_line_free
INSERT OR IGNORE INTO litequeue_serial (job, schedule, held) VALUES (:job, :schedule, 0)

-- name: hold
UPDATE litequeue_jobs SET state = 2 WHERE id = :id AND state < 2

-- Whether a job that is retried has to wait for its turn: it has, while its schedule has a line.
-- name: line_of
SELECT job.schedule FROM litequeue_jobs AS job
WHERE job.id = :id AND NOT EXISTS (SELECT 1 FROM litequeue_serial WHERE litequeue_serial.job = job.id)
      AND (EXISTS (SELECT 1 FROM litequeue_serial WHERE schedule = job.schedule)
           OR EXISTS (SELECT 1 FROM litequeue_schedules WHERE name = job.schedule AND overlap IN ('queue', 'replace')))

-- Lines in which nothing may begin, or may for ever: someone else has deleted jobs. Read when a worker starts.
-- name: stuck_lines
SELECT schedule FROM litequeue_serial
WHERE held = 0 AND NOT EXISTS (SELECT 1 FROM litequeue_jobs WHERE id = litequeue_serial.job AND state < 4)
UNION
SELECT schedule FROM litequeue_serial GROUP BY schedule HAVING min(held) = 1

-- Whether a job waits for others of its schedule.
-- name: is_held
SELECT 1 FROM litequeue_serial WHERE job = :id AND held = 1
