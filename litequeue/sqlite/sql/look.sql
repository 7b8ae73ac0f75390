-- One whose time has come is there as long as something that waits takes its result.
-- name: look_up
SELECT * FROM litequeue_job_records WHERE id = :id AND (delete_at IS NULL OR delete_at > :now
     OR (delete_at > 0 AND EXISTS (SELECT 1 FROM litequeue_needed WHERE job = litequeue_job_records.id)))

-- name: look_up_many
SELECT record.* FROM json_each(:ids) AS asked
CROSS JOIN litequeue_job_records AS record ON record.id = CAST(asked.value AS INTEGER)
WHERE record.delete_at IS NULL OR record.delete_at > :now
      OR (record.delete_at > 0 AND EXISTS (SELECT 1 FROM litequeue_needed WHERE job = record.id))

-- name: ended_among
SELECT awaited.value FROM json_each(:ids) AS awaited
LEFT JOIN litequeue_jobs AS job ON job.id = CAST(awaited.value AS INTEGER)
WHERE job.id IS NULL OR job.state >= 4

-- name: queued_among
SELECT awaited.value FROM json_each(:ids) AS awaited
CROSS JOIN litequeue_jobs AS job ON job.id = CAST(awaited.value AS INTEGER)
WHERE job.state = 1

-- A listing looks at one block of jobs after another: of consecutive ids, or of ids that it has from an index. Parked
-- jobs (state 2) are queued.
-- name: list_between
SELECT listed.* FROM
   (SELECT id FROM litequeue_jobs
    WHERE id BETWEEN +:first AND +:last AND (:state IS NULL OR CASE WHEN state = 2 AND :state IN (1, 2)
           THEN :state = 2 - EXISTS (SELECT 1 FROM litequeue_parked WHERE job = litequeue_jobs.id) ELSE state = :state END)
          AND (:queue IS NULL OR queue = :queue) AND (:task IS NULL OR task = :task OR (task > :task || '@' AND task < :task || 'A'))
          AND (:schedule IS NULL OR schedule = :schedule)
          AND (:tag IS NULL OR EXISTS (SELECT 1 FROM json_each(CASE WHEN json_valid(tags) THEN tags ELSE json_array(tags) END)
                                       WHERE value = :tag))
          AND (delete_at IS NULL OR delete_at > :now)
    ORDER BY id DESC LIMIT CAST(:limit AS INTEGER)) AS hit
CROSS JOIN litequeue_job_listed AS listed ON listed.id = hit.id ORDER BY hit.id DESC

-- name: list_among
SELECT listed.* FROM
   (SELECT id FROM litequeue_jobs
    WHERE id IN (SELECT value FROM json_each(:ids)) AND (:state IS NULL OR CASE WHEN state = 2 AND :state IN (1, 2)
           THEN :state = 2 - EXISTS (SELECT 1 FROM litequeue_parked WHERE job = litequeue_jobs.id) ELSE state = :state END)
          AND (:queue IS NULL OR queue = :queue) AND (:task IS NULL OR task = :task OR (task > :task || '@' AND task < :task || 'A'))
          AND (:schedule IS NULL OR schedule = :schedule)
          AND (:tag IS NULL OR EXISTS (SELECT 1 FROM json_each(CASE WHEN json_valid(tags) THEN tags ELSE json_array(tags) END)
                                       WHERE value = :tag))
          AND (delete_at IS NULL OR delete_at > :now)
    ORDER BY id DESC LIMIT CAST(:limit AS INTEGER)) AS hit
CROSS JOIN litequeue_job_listed AS listed ON listed.id = hit.id ORDER BY hit.id DESC

-- Gaps in the ids are skipped by it.
-- name: newest_before
SELECT max(id) FROM litequeue_jobs WHERE id < +:before

-- Where an index holds what is looked for in the order of ids, the next block of these.
-- name: dead_ids
SELECT id FROM litequeue_jobs WHERE state > 4 AND state = +:state AND id < +:before
ORDER BY id DESC LIMIT CAST(:limit AS INTEGER)

-- name: counted_ids
SELECT id FROM litequeue_jobs INDEXED BY litequeue_jobs_counted
WHERE state <> 1 AND state <> 3 AND state <> 4 AND queue = +:queue AND state = +:state AND id < +:before
ORDER BY id DESC LIMIT CAST(:limit AS INTEGER)

-- Where an index holds it in another order: all of it, if that is little.
-- name: ready_ids
SELECT id FROM litequeue_jobs WHERE state = 1
UNION ALL SELECT job FROM litequeue_parked LIMIT CAST(:limit AS INTEGER)

-- name: ready_ids_of_queue
SELECT id FROM litequeue_jobs WHERE state = 1 AND queue = +:queue
UNION ALL SELECT job FROM litequeue_parked WHERE queue = +:queue LIMIT CAST(:limit AS INTEGER)

-- Of all versions of the task.
-- name: ready_ids_of_lane
SELECT id FROM litequeue_jobs WHERE state = 1 AND queue = +:queue AND task = +:task
UNION ALL
SELECT id FROM litequeue_jobs WHERE state = 1 AND queue = +:queue AND task > :task || '@' AND task < :task || 'A'
UNION ALL
SELECT job FROM litequeue_parked WHERE queue = +:queue AND task = +:task
UNION ALL
SELECT job FROM litequeue_parked WHERE queue = +:queue AND task > :task || '@' AND task < :task || 'A'
LIMIT CAST(:limit AS INTEGER)

-- name: ready_ids_of_task
WITH RECURSIVE ready (queue) AS (
    SELECT * FROM (SELECT queue FROM litequeue_jobs WHERE state = 1 ORDER BY queue LIMIT 1)
    UNION ALL
    SELECT (SELECT queue FROM litequeue_jobs WHERE state = 1 AND queue > ready.queue ORDER BY queue LIMIT 1)
    FROM ready WHERE ready.queue IS NOT NULL),
parked (queue) AS (
    SELECT (SELECT queue FROM litequeue_parked ORDER BY queue LIMIT 1)
    UNION ALL
    SELECT (SELECT queue FROM litequeue_parked WHERE queue > parked.queue ORDER BY queue LIMIT 1)
    FROM parked WHERE parked.queue IS NOT NULL)
SELECT id FROM ready CROSS JOIN litequeue_jobs AS job
WHERE job.state = 1 AND job.queue = ready.queue AND job.task = +:task
UNION ALL
SELECT id FROM ready CROSS JOIN litequeue_jobs AS job
WHERE job.state = 1 AND job.queue = ready.queue AND job.task > :task || '@' AND job.task < :task || 'A'
UNION ALL
SELECT job FROM parked CROSS JOIN litequeue_parked AS one WHERE one.queue = parked.queue AND one.task = +:task
UNION ALL
SELECT job FROM parked CROSS JOIN litequeue_parked AS one
WHERE one.queue = parked.queue AND one.task > :task || '@' AND one.task < :task || 'A'
LIMIT CAST(:limit AS INTEGER)

-- name: scheduled_ids
SELECT id FROM litequeue_jobs WHERE state = 0 LIMIT CAST(:limit AS INTEGER)

-- name: running_ids
SELECT id FROM litequeue_jobs WHERE state = 3 LIMIT CAST(:limit AS INTEGER)

-- All but those that have succeeded, from partial indexes alone; the queues of ready jobs by one index probe each, for
-- GROUP BY takes twice as long.
-- name: counts
WITH RECURSIVE ready (queue) AS (
    SELECT * FROM (SELECT queue FROM litequeue_jobs WHERE state = 1 ORDER BY queue LIMIT 1)
    UNION ALL
    SELECT (SELECT queue FROM litequeue_jobs WHERE state = 1 AND queue > ready.queue ORDER BY queue LIMIT 1)
    FROM ready WHERE ready.queue IS NOT NULL)
SELECT queue, 1, (SELECT count(*) FROM litequeue_jobs WHERE state = 1 AND queue = ready.queue)
FROM ready WHERE queue IS NOT NULL
UNION ALL
SELECT queue, 3, count(*) FROM litequeue_jobs WHERE state = 3 GROUP BY queue
UNION ALL
SELECT queue, state, count(*) FROM litequeue_jobs INDEXED BY litequeue_jobs_counted
WHERE state <> 1 AND state <> 3 AND state <> 4 AND (queue <> '' OR delete_at IS NOT 0) GROUP BY queue, state

-- Of these among the waiting ones that are queued.
-- name: parked_of_queues
SELECT queue, count(*) FROM litequeue_parked GROUP BY queue

-- name: succeeded
SELECT queue, count(*) FROM litequeue_jobs WHERE state = 4 AND (queue <> '' OR delete_at IS NOT 0) GROUP BY queue

-- name: id_range
SELECT (SELECT min(id) FROM litequeue_jobs), (SELECT max(id) FROM litequeue_jobs)

-- name: used_ids
SELECT * FROM
    (SELECT (SELECT min(id) FROM litequeue_jobs WHERE id BETWEEN json_extract(span.value, '$[0]') AND json_extract(span.value, '$[1]')) AS first,
            (SELECT max(id) FROM litequeue_jobs WHERE id BETWEEN json_extract(span.value, '$[0]') AND json_extract(span.value, '$[1]'))
     FROM json_each(:spans) AS span)
WHERE first IS NOT NULL

-- name: sample
SELECT block.key, job.queue FROM json_each(:blocks) AS block CROSS JOIN litequeue_jobs AS job
ON job.id BETWEEN json_extract(block.value, '$[0]') AND json_extract(block.value, '$[1]')
WHERE job.state = 4

-- For each queue, task and priority the first job by one index probe, then as many index entries and rows as make about
-- :entries and :rows in all. The last column tells whether there are more entries.
-- name: ready_counts
WITH RECURSIVE head (id, queue, task, rank) AS (
    SELECT * FROM (SELECT id, queue, task, -priority FROM litequeue_jobs WHERE state = 1
                   ORDER BY queue, task, -priority, id LIMIT 1)
    UNION ALL
    SELECT job.id, job.queue, job.task, -job.priority FROM head JOIN litequeue_jobs AS job ON job.id = coalesce(
        (SELECT id FROM litequeue_jobs WHERE state = 1 AND queue = head.queue AND task = head.task
         AND -priority > head.rank ORDER BY -priority, id LIMIT 1),
        (SELECT id FROM litequeue_jobs WHERE state = 1 AND queue = head.queue AND task > head.task
         ORDER BY task, -priority, id LIMIT 1),
        (SELECT id FROM litequeue_jobs WHERE state = 1 AND queue > head.queue
         ORDER BY queue, task, -priority, id LIMIT 1))),
share (entries, rows) AS MATERIALIZED (
    SELECT max(:least, CAST(:entries AS INTEGER) / count(*)), min(100, max(1, CAST(:rows AS INTEGER) / count(*)))
    FROM head),
counted (queue, task, jobs, oldest) AS MATERIALIZED (
    SELECT queue, task,
           (SELECT count(*) FROM (SELECT 1 FROM litequeue_jobs AS job
            WHERE job.state = 1 AND job.queue = head.queue AND job.task = head.task AND -job.priority = head.rank
            LIMIT (SELECT entries FROM share))),
           (SELECT min(run_at) FROM (SELECT job.run_at FROM litequeue_jobs AS job
            WHERE job.state = 1 AND job.queue = head.queue AND job.task = head.task AND -job.priority = head.rank
            ORDER BY job.id LIMIT (SELECT rows FROM share)))
    FROM head)
SELECT queue, task, sum(jobs), min(oldest), max(jobs >= (SELECT entries FROM share)) FROM counted GROUP BY queue, task

-- What waits for tasks that a worker does not have: lanes as in `look`, and of the others some index entries each.
-- name: ready_without
WITH RECURSIVE lane (id, queue, task) AS (
    SELECT * FROM (SELECT id, queue, task FROM litequeue_jobs WHERE state = 1 ORDER BY queue, task LIMIT 1)
    UNION ALL
    SELECT job.id, job.queue, job.task FROM lane CROSS JOIN litequeue_jobs AS job ON job.id = coalesce(
        (SELECT id FROM litequeue_jobs WHERE state = 1 AND queue = lane.queue AND task > lane.task ORDER BY task LIMIT 1),
        (SELECT id FROM litequeue_jobs WHERE state = 1 AND queue > lane.queue ORDER BY queue, task LIMIT 1))
    LIMIT CAST(:lanes AS INTEGER))
SELECT queue, task, (SELECT count(*) FROM (SELECT 1 FROM litequeue_jobs
                     WHERE state = 1 AND queue = lane.queue AND task = lane.task LIMIT CAST(:entries AS INTEGER)))
FROM lane
WHERE task NOT IN (SELECT value FROM json_each(:tasks))
      AND (:queues IS NULL OR queue IN (SELECT value FROM json_each(:queues)))
LIMIT CAST(:counted AS INTEGER)

-- Of the newest jobs, and of those that are to be pruned last: under a long backlog the newest have not run.
-- name: recent_durations
SELECT task, finished_at - started_at FROM litequeue_jobs
WHERE id IN (SELECT id FROM (SELECT id FROM litequeue_jobs ORDER BY id DESC LIMIT CAST(:limit AS INTEGER)) UNION
             SELECT id FROM (SELECT id FROM litequeue_jobs WHERE delete_at IS NOT NULL ORDER BY delete_at DESC LIMIT CAST(:limit AS INTEGER)))
      AND state IN (4, 5) AND finished_at - started_at IS NOT NULL
ORDER BY finished_at DESC LIMIT CAST(:limit AS INTEGER)

-- name: standing_in_line
SELECT queue, -priority, state = 1 OR (state = 2 AND EXISTS (SELECT 1 FROM litequeue_parked WHERE job = :id))
FROM litequeue_jobs WHERE id = :id AND (delete_at IS NULL OR delete_at > :now)

-- How many jobs of a queue come before one: ready and parked ones, by entries of two indexes, of which :limit are read.
-- name: before_it
WITH RECURSIVE lane (task) AS (
    SELECT (SELECT task FROM litequeue_jobs WHERE state = 1 AND queue = +:queue ORDER BY task LIMIT 1)
    UNION ALL
    SELECT (SELECT task FROM litequeue_jobs WHERE state = 1 AND queue = +:queue AND task > lane.task ORDER BY task LIMIT 1)
    FROM lane WHERE lane.task IS NOT NULL LIMIT CAST(:limit AS INTEGER)),
parked_lane (task) AS (
    SELECT (SELECT task FROM litequeue_parked WHERE queue = +:queue ORDER BY task LIMIT 1)
    UNION ALL
    SELECT (SELECT task FROM litequeue_parked WHERE queue = +:queue AND task > parked_lane.task ORDER BY task LIMIT 1)
    FROM parked_lane WHERE parked_lane.task IS NOT NULL LIMIT CAST(:limit AS INTEGER))
SELECT count(*) FROM (
    SELECT 1 FROM lane CROSS JOIN litequeue_jobs AS job
    WHERE job.state = 1 AND job.queue = +:queue AND job.task = lane.task AND -job.priority < +:rank
    UNION ALL
    SELECT 1 FROM lane CROSS JOIN litequeue_jobs AS job
    WHERE job.state = 1 AND job.queue = +:queue AND job.task = lane.task AND -job.priority = +:rank AND job.id < +:id
    UNION ALL
    SELECT 1 FROM parked_lane CROSS JOIN litequeue_parked AS parked
    WHERE parked.queue = +:queue AND parked.task = parked_lane.task AND parked.rank < +:rank
    UNION ALL
    SELECT 1 FROM parked_lane CROSS JOIN litequeue_parked AS parked
    WHERE parked.queue = +:queue AND parked.task = parked_lane.task AND parked.rank = +:rank AND parked.job < +:id
    LIMIT CAST(:limit AS INTEGER))

-- Of a job that waits for others of its schedule, the one that may run.
-- name: before_in_line
SELECT other.job FROM litequeue_serial AS held CROSS JOIN litequeue_serial AS other
ON other.schedule = held.schedule AND other.held = 0
WHERE held.job = :id AND held.held = 1 ORDER BY other.job LIMIT 1

-- name: parked_with
SELECT limit_name, key FROM litequeue_parked WHERE job = :id
