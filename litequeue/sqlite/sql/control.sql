-- name: request_cancel
UPDATE litequeue_jobs SET cancel_requested = 1 WHERE id = :id AND state < 4
RETURNING state, attempt

-- name: retry
UPDATE litequeue_jobs
SET state = 1, run_at = :now, failures = 0, deaths = 0, finished_at = NULL, delete_at = NULL, expires_at = NULL,
    cancel_requested = 0, held_key = key, progress = NULL
WHERE id = :id AND state IN (0, 5, 6, 7)
