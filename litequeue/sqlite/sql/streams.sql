-- The number and the attempt of the last event of a job, if this run is the one that it is in.
-- name: stream_end
SELECT (SELECT number FROM litequeue_streams WHERE job = :id ORDER BY number DESC LIMIT 1),
       (SELECT attempt FROM litequeue_streams WHERE job = :id ORDER BY number DESC LIMIT 1)
FROM litequeue_jobs WHERE id = :id AND attempt = :attempt AND state = 3

-- By position: job, number, attempt, time, value.
-- name: emit
INSERT INTO litequeue_streams (job, number, attempt, at, value) VALUES (?, ?, ?, ?, ?)

-- name: is_emitted
SELECT 1 FROM litequeue_streams WHERE job = ? AND number = ? AND attempt = ?

-- name: stream
SELECT number, attempt, at, value FROM litequeue_streams
WHERE job = :id AND number > :after ORDER BY number LIMIT CAST(:limit AS INTEGER)
