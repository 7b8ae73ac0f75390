-- The number and the attempt of the last event of a job, if this run is the one that it is in. None either where :most
-- leaves no room for the numbers that follow, which only someone else's write brings about.
-- name: stream_end
SELECT last.number, last.attempt
FROM litequeue_jobs AS job
LEFT JOIN litequeue_streams AS last
     ON last.job = job.id AND last.number = (SELECT max(number) FROM litequeue_streams WHERE job = :id)
WHERE job.id = :id AND job.attempt = :attempt AND job.state = 3 AND (last.number IS NULL OR last.number < :most)

-- By position: job, number, attempt, time, value.
-- name: emit
INSERT INTO litequeue_streams (job, number, attempt, at, value) VALUES (?, ?, ?, ?, ?)

-- name: is_emitted
SELECT 1 FROM litequeue_streams WHERE job = ? AND number = ? AND attempt = ?

-- name: stream
SELECT number, attempt, at, value FROM litequeue_streams
WHERE job = :id AND number > :after ORDER BY number LIMIT CAST(:limit AS INTEGER)

-- The details of a heartbeat, if this run is the one that the job is in. Nothing else.
-- name: beat_of_run
INSERT OR REPLACE INTO litequeue_heartbeats (job, attempt, at, details)
SELECT id, attempt, :at, :details FROM litequeue_jobs WHERE id = :id AND attempt = :attempt AND state = 3
RETURNING 1

-- name: last_beats
SELECT job, details FROM litequeue_heartbeats WHERE job IN (SELECT value FROM json_each(:ids))
