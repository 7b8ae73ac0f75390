-- What is due, highest priority first: for each priority among what is scheduled, which are few, a range of the index.
-- name: promote
UPDATE litequeue_jobs SET state = 1 WHERE id IN (
    WITH RECURSIVE due (priority) AS (
        SELECT (SELECT max(priority) FROM litequeue_jobs WHERE state = 0)
        UNION ALL
        SELECT (SELECT max(priority) FROM litequeue_jobs WHERE state = 0 AND priority < due.priority)
        FROM due WHERE due.priority IS NOT NULL)
    SELECT job.id FROM due CROSS JOIN litequeue_jobs AS job
    WHERE job.state = 0 AND job.priority = due.priority AND job.run_at <= :now LIMIT CAST(:limit AS INTEGER))

-- What has not begun by its `expires`.
-- name: overdue
SELECT id, attempt, state, schedule IS NOT NULL FROM litequeue_jobs
WHERE state < 3 AND begun = 0 AND expires_at IS NOT NULL AND expires_at <= :now ORDER BY expires_at LIMIT CAST(:limit AS INTEGER)

-- Before a claim, in one statement, since each costs most where the processor has slept: first when something scheduled
-- is due, when something expires, whether the worker is on record, and the word that changes with the rules of limits;
-- then the first :limit lanes, the distinct (queue, task) pairs with a ready job, by one index probe a pair, however long the backlog. What is scheduled has one priority as
-- a rule; the index of it is asked for each only where it has more.
-- name: look
WITH RECURSIVE due (priority, run_at) AS (
    SELECT * FROM (SELECT priority, run_at FROM litequeue_jobs WHERE state = 0 ORDER BY priority DESC, run_at LIMIT 1)
    UNION ALL
    SELECT job.priority, job.run_at FROM due CROSS JOIN litequeue_jobs AS job ON job.id =
        (SELECT id FROM litequeue_jobs WHERE state = 0 AND priority < due.priority
         ORDER BY priority DESC, run_at LIMIT 1)),
lane (id, queue, task) AS (
    SELECT * FROM (SELECT id, queue, task FROM litequeue_jobs WHERE state = 1 ORDER BY queue, task LIMIT 1)
    UNION ALL
    SELECT job.id, job.queue, job.task FROM lane CROSS JOIN litequeue_jobs AS job ON job.id = coalesce(
        (SELECT id FROM litequeue_jobs WHERE state = 1 AND queue = lane.queue AND task > lane.task ORDER BY task LIMIT 1),
        (SELECT id FROM litequeue_jobs WHERE state = 1 AND queue > lane.queue ORDER BY queue, task LIMIT 1))
    LIMIT CAST(:limit AS INTEGER))
SELECT CASE WHEN (SELECT max(priority) FROM litequeue_jobs WHERE state = 0)
              IS (SELECT min(priority) FROM litequeue_jobs WHERE state = 0)
            THEN (SELECT run_at FROM litequeue_jobs WHERE state = 0 ORDER BY priority DESC, run_at LIMIT 1)
            ELSE (SELECT min(run_at) FROM due) END,
       (SELECT min(expires_at) FROM litequeue_jobs WHERE state < 3 AND begun = 0 AND expires_at IS NOT NULL),
       EXISTS (SELECT 1 FROM litequeue_workers WHERE id = :worker),
       (SELECT value FROM litequeue_meta WHERE name = 'rules')
UNION ALL
SELECT queue, task, NULL, NULL FROM lane

-- Where there are more lanes, the queues are read from a name on, as far as a claim needs them.
-- name: ready_queues
WITH RECURSIVE ready (queue) AS (
    SELECT (SELECT queue FROM litequeue_jobs WHERE state = 1 AND queue >= :first ORDER BY queue LIMIT 1)
    UNION ALL
    SELECT (SELECT queue FROM litequeue_jobs WHERE state = 1 AND queue > ready.queue ORDER BY queue LIMIT 1)
    FROM ready WHERE ready.queue IS NOT NULL LIMIT CAST(:limit AS INTEGER))
SELECT queue FROM ready WHERE queue IS NOT NULL

-- name: ready_among
SELECT value FROM json_each(:queues)
WHERE EXISTS (SELECT 1 FROM litequeue_jobs WHERE state = 1 AND queue = value) ORDER BY key

-- A queue's lanes, each by its first job: one index probe and one row.
-- name: lanes
WITH RECURSIVE lane (rank, id, task) AS (
    SELECT * FROM (SELECT -priority, id, task FROM litequeue_jobs WHERE state = 1 AND queue = +:queue
                   ORDER BY task, -priority, id LIMIT 1)
    UNION ALL
    SELECT -job.priority, job.id, job.task FROM lane CROSS JOIN litequeue_jobs AS job ON job.id =
        (SELECT id FROM litequeue_jobs WHERE state = 1 AND queue = +:queue AND task > lane.task
         ORDER BY task, -priority, id LIMIT 1))
SELECT rank, id, task FROM lane

-- The first jobs of many lanes of one queue in their order, given the first of each: two index probes and a row a job, as
-- the recursion hands out the first row by its ORDER BY, and then only asks for what follows it in its lane.
-- name: merged
WITH RECURSIVE merged (rank, id, task, deaths) AS (
    SELECT -job.priority, job.id, job.task, job.deaths
    FROM json_each(:heads) AS head CROSS JOIN litequeue_jobs AS job ON job.id = head.value
    UNION ALL
    SELECT -job.priority, job.id, job.task, job.deaths FROM merged CROSS JOIN litequeue_jobs AS job ON job.id = coalesce(
        (SELECT id FROM litequeue_jobs WHERE state = 1 AND queue = +:queue AND task = merged.task
         AND -priority = merged.rank AND id > merged.id ORDER BY id LIMIT 1),
        (SELECT id FROM litequeue_jobs WHERE state = 1 AND queue = +:queue AND task = merged.task
         AND -priority > merged.rank ORDER BY -priority, id LIMIT 1))
    ORDER BY 1, 2)
SELECT id FROM merged WHERE :most_deaths IS NULL OR deaths <= :most_deaths LIMIT CAST(:limit AS INTEGER)

-- What a claim may take, as it will be when it is claimed: the first jobs of one lane, or those that were picked. A large
-- payload is NULL here, and read when its size is known: see `_bounded`.
-- name: front
SELECT CAST(id AS TEXT), attempt + 1, task, queue, payload, priority, failures, deaths, timeout, retries, key, created_at,
       schedule IS NOT NULL
FROM litequeue_jobs WHERE state = 1 AND queue = +:queue AND task = +:task
ORDER BY -priority, id LIMIT CAST(:limit AS INTEGER)

-- name: picked
SELECT CAST(job.id AS TEXT), attempt + 1, task, queue, payload, priority, failures, deaths, timeout, retries, job.key, created_at,
       schedule IS NOT NULL
FROM json_each(:ids) AS picked CROSS JOIN litequeue_jobs AS job ON job.id = picked.value AND job.state = 1

-- name: sizes
SELECT CAST(job AS TEXT), length(payload) FROM litequeue_payloads WHERE job IN (SELECT value FROM json_each(:ids))

-- name: payloads
SELECT CAST(job AS TEXT), payload FROM litequeue_payloads WHERE job IN (SELECT value FROM json_each(:ids))

-- At most :limit index entries a task are read; jobs of other tasks are never touched.
-- name: heads
SELECT -priority, id FROM litequeue_jobs WHERE state = 1 AND queue = +:queue AND task = +:task
ORDER BY -priority, id LIMIT CAST(:limit AS INTEGER)

-- The same without those under which workers died: it reads a row for each.
-- name: unsuspected_heads
SELECT -priority, id FROM litequeue_jobs
WHERE state = 1 AND queue = +:queue AND task = +:task AND deaths <= +:most_deaths
ORDER BY -priority, id LIMIT CAST(:limit AS INTEGER)

-- Three for a lane in which expired jobs stand, of which one claim ends no more than a chunk. Each reads one priority,
-- whose number is the negative of its rank. `in_lane` says which have not expired, and which the worker leaves to others.
-- name: next_rank
SELECT -priority, id FROM litequeue_jobs WHERE state = 1 AND queue = +:queue AND task = +:task AND -priority > +:rank
ORDER BY -priority, id LIMIT 1

-- name: in_lane
SELECT id, begun > 0 OR expires_at IS NULL OR expires_at > :now, :most_deaths IS NULL OR deaths <= :most_deaths
FROM litequeue_jobs
WHERE state = 1 AND queue = +:queue AND task = +:task AND -priority = +:rank AND id >= +:first
ORDER BY id LIMIT CAST(:limit AS INTEGER)

-- name: last_of_rank
SELECT id, begun > 0 OR expires_at IS NULL OR expires_at > :now FROM litequeue_jobs
WHERE state = 1 AND queue = +:queue AND task = +:task AND -priority = +:rank ORDER BY id DESC LIMIT 1

-- Run for one run of ids after another, so by position: worker, now, first, last. One UPDATE of all with RETURNING costs
-- a temporary table or four each time, which is most of what a claim of one job takes.
-- name: take
UPDATE litequeue_jobs
SET state = 3, attempt = attempt + 1, begun = begun + 1, worker = ?, started_at = ?
WHERE id BETWEEN ? AND ? AND +state = 1

-- name: taken
SELECT CAST(job.id AS TEXT), attempt, task, queue,
       coalesce(payload, (SELECT payload FROM litequeue_payloads WHERE litequeue_payloads.job = job.id), x''),
       priority, failures, deaths, timeout, retries, job.key, created_at, schedule IS NOT NULL
FROM json_each(:ids) AS taken CROSS JOIN litequeue_jobs AS job ON job.id = taken.value

-- name: requested_cancels
SELECT CAST(id AS TEXT), attempt FROM litequeue_jobs
WHERE state = 3 AND worker = :worker AND cancel_requested = 1
