-- One run's log, in the place of what was stored of it before. By position: at, written, dropped, log, id, attempt, and 1
-- where it is the last of that run. What was taken down before the end must not come after it.
-- name: keep_log
INSERT OR REPLACE INTO litequeue_run_logs (job, attempt, at, written, dropped, log)
SELECT id, attempt, ?, ?, ?, ? FROM litequeue_jobs
WHERE id = ? AND attempt = ? AND delete_at IS NOT 0 AND (state = 3 OR ?)

-- Of more than :most runs of a job the first ones.
-- name: drop_older_logs
DELETE FROM litequeue_run_logs
WHERE job = :job AND attempt < (SELECT min(attempt) FROM (SELECT attempt FROM litequeue_run_logs WHERE job = :job
                                                          ORDER BY attempt DESC LIMIT CAST(:most AS INTEGER)))

-- What a reader has not seen yet.
-- name: logs
SELECT attempt, written, dropped, log FROM litequeue_run_logs
WHERE job = :job AND attempt >= :attempt AND (attempt > :attempt OR written > :written) ORDER BY attempt

-- name: follow_log
INSERT OR REPLACE INTO litequeue_log_followers (job, until)
SELECT id, :until FROM litequeue_jobs WHERE id = :job AND delete_at IS NOT 0

-- name: forget_followers
DELETE FROM litequeue_log_followers WHERE until <= :now

-- name: followed
SELECT job FROM litequeue_log_followers WHERE until > :now
