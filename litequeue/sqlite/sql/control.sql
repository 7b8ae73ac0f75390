-- name: request_cancel
UPDATE litequeue_jobs SET cancel_requested = 1 WHERE id = :id AND state < 4
RETURNING state, attempt, schedule IS NOT NULL

-- name: retry
UPDATE litequeue_jobs
SET state = :state, run_at = :now, failures = 0, deaths = 0, finished_at = NULL, delete_at = NULL, expires_at = NULL,
    cancel_requested = 0, held_key = CASE WHEN :holds THEN key END, progress = NULL
WHERE id = :id AND state IN (0, 5, 6, 7)

-- For what an operator does to many jobs at once: their ids, the newest first.
-- name: matching
SELECT CAST(id AS TEXT) FROM litequeue_jobs
WHERE state BETWEEN :first AND :last AND (:exactly IS NULL OR state <> 2
           OR :exactly = 2 - EXISTS (SELECT 1 FROM litequeue_parked WHERE job = litequeue_jobs.id))
      AND (:task IS NULL OR task = :task OR (task > :task || '@' AND task < :task || 'A')) AND (:queue IS NULL OR queue = :queue)
      AND (:before IS NULL OR id < :before)
ORDER BY id DESC LIMIT CAST(:limit AS INTEGER)

-- name: matching_dead
SELECT CAST(id AS TEXT) FROM litequeue_jobs
WHERE state > 4 AND state = :state AND (delete_at IS NULL OR delete_at > :now)
      AND (:task IS NULL OR task = :task OR (task > :task || '@' AND task < :task || 'A')) AND (:queue IS NULL OR queue = :queue)
      AND NOT EXISTS (SELECT 1 FROM litequeue_dependents WHERE node = litequeue_jobs.id)
      AND (:before IS NULL OR id < :before)
ORDER BY id DESC LIMIT CAST(:limit AS INTEGER)

-- Oldest first: a parent comes before what waits for it. But for those whose parent has to be retried first.
-- name: matching_dead_dependents
SELECT CAST(id AS TEXT) FROM litequeue_jobs
WHERE state > 4 AND state = :state AND (delete_at IS NULL OR delete_at > :now)
      AND (:task IS NULL OR task = :task OR (task > :task || '@' AND task < :task || 'A')) AND (:queue IS NULL OR queue = :queue)
      AND NOT EXISTS (SELECT 1 FROM litequeue_jobs AS parent
                      WHERE parent.id = (SELECT ended_by FROM litequeue_dependents WHERE node = litequeue_jobs.id) AND parent.state > 4)
      AND EXISTS (SELECT 1 FROM litequeue_dependents WHERE node = litequeue_jobs.id)
      AND id > :after AND id <= :newest
ORDER BY id LIMIT CAST(:limit AS INTEGER)
