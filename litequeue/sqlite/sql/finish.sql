-- Ends and returns. Each names the attempt and the state, so that a late worker changes nothing. Ends leave held_key as it
-- is: SQLite writes the index of a column that is named, and a key's entry is a page of its own. See key_holder.
-- A job is kept as long as its key is held for a time.
-- Every end of a job, but the successes of `succeed_together`. By position, and without RETURNING, since a run alone costs
-- half as much so: state, now, delete_at, result, more failures, more deaths, id, attempt, and the state it was in.
-- name: finish
UPDATE litequeue_jobs
SET state = ?, worker = NULL, finished_at = ?,
    delete_at = max(?, CASE WHEN key IS NULL THEN 0.0 ELSE coalesce((SELECT held_until FROM litequeue_timed_keys WHERE job = id), 0.0) END),
    result = ?, failures = failures + ?, deaths = deaths + ?
WHERE id = ? AND attempt = ? AND state = ?

-- Successes, as many at once as there are rows of values (now, delete_at, result, id, attempt): a statement a job costs
-- a third more. Nothing goes before UPDATE: where WITH does, Python's sqlite3 counts no rows.
-- name: succeed_together
UPDATE litequeue_jobs
SET state = 4, worker = NULL, finished_at = ended.column1,
    delete_at = max(ended.column2, CASE WHEN key IS NULL THEN 0.0 ELSE coalesce(
        (SELECT held_until FROM litequeue_timed_keys WHERE job = litequeue_jobs.id), 0.0) END),
    result = ended.column3
FROM (VALUES (?, ?, ?, ?, ?)) AS ended
WHERE litequeue_jobs.id = ended.column4 AND litequeue_jobs.attempt = ended.column5 AND litequeue_jobs.state = 3

-- Where the job's row has none. OR REPLACE: see enqueue.keep_payload.
-- name: keep_result
INSERT OR REPLACE INTO litequeue_results (job, result) VALUES (?, ?)

-- Every return of a run to its queue. :unbegun 1: its function was never called, and it is as if it had not been claimed,
-- so it holds its key again, if none has taken that meanwhile. Nothing, where its counters leave no room for another run.
-- name: reschedule
UPDATE litequeue_jobs
SET state = :state, worker = NULL, run_at = coalesce(:run_at, run_at),
    failures = failures + :failed, deaths = deaths + :died,
    begun = max(0, begun - :unbegun), started_at = CASE WHEN begun > :unbegun THEN started_at END,
    held_key = CASE WHEN key_scope IS NOT 'queued' THEN held_key WHEN begun <= :unbegun AND NOT EXISTS
                         (SELECT 1 FROM litequeue_jobs AS other
                          WHERE other.task = litequeue_jobs.task AND other.held_key = litequeue_jobs.key
                                AND other.id <> litequeue_jobs.id)
                    THEN key END
WHERE id = :id AND attempt = :attempt AND state = 3
      AND max(attempt, failures + :failed, deaths + :died) < :most
RETURNING cancel_requested

-- name: record_error
INSERT OR REPLACE INTO litequeue_errors (job, attempt, at, type, message, traceback)
VALUES (:id, :attempt, :now, :type, :message, :traceback)

-- Of more than :most errors of a job, those between the first and the last half of that.
-- name: drop_middle_errors
DELETE FROM litequeue_errors
WHERE job = :id AND attempt IN (
    SELECT attempt FROM litequeue_errors WHERE job = :id ORDER BY attempt
    LIMIT (SELECT max(count(*) - :most, 0) FROM litequeue_errors WHERE job = :id) OFFSET CAST(:most / 2 AS INTEGER))

-- name: standing
SELECT state, attempt, task, key, schedule IS NOT NULL FROM litequeue_jobs WHERE id = :id AND (delete_at IS NULL OR delete_at > :now
     OR (delete_at > 0 AND EXISTS (SELECT 1 FROM litequeue_needed WHERE job = litequeue_jobs.id)))

-- name: stands
SELECT 1 FROM litequeue_jobs WHERE id = :id AND attempt = :attempt AND state = :state

-- name: note_progress
UPDATE litequeue_jobs SET progress = :progress WHERE id = :id AND attempt = :attempt AND state = 3
RETURNING cancel_requested
