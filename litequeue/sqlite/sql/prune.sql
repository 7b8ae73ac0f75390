-- With about how many bytes go with each: lengths of BLOBs stand at the head of a row. An error takes a page at most times.
-- name: prunable
SELECT id, coalesce(length(payload), (SELECT length(payload) FROM litequeue_payloads WHERE job = litequeue_jobs.id), 0)
           + coalesce(length(result), (SELECT length(result) FROM litequeue_results WHERE job = litequeue_jobs.id), 0)
           + coalesce((SELECT sum(length(log)) FROM litequeue_run_logs WHERE job = litequeue_jobs.id), 0)
           + coalesce((SELECT length(details) FROM litequeue_heartbeats WHERE job = litequeue_jobs.id), 0)
           + 4096 * (failures + deaths)
           + 200 * coalesce((SELECT max(number) FROM litequeue_streams WHERE job = litequeue_jobs.id), 0)
FROM litequeue_jobs
WHERE delete_at IS NOT NULL AND delete_at <= :now AND delete_at <> 0 ORDER BY delete_at LIMIT CAST(:limit AS INTEGER)

-- name: prune_errors
DELETE FROM litequeue_errors WHERE job IN (SELECT value FROM json_each(:ids))

-- name: prune_payloads
DELETE FROM litequeue_payloads WHERE job IN (SELECT value FROM json_each(:ids))

-- name: prune_results
DELETE FROM litequeue_results WHERE job IN (SELECT value FROM json_each(:ids))

-- name: prune_streams
DELETE FROM litequeue_streams WHERE job IN (SELECT value FROM json_each(:ids))

-- name: prune_heartbeats
DELETE FROM litequeue_heartbeats WHERE job IN (SELECT value FROM json_each(:ids))

-- name: prune_logs
DELETE FROM litequeue_run_logs WHERE job IN (SELECT value FROM json_each(:ids))

-- name: prune_log_followers
DELETE FROM litequeue_log_followers WHERE job IN (SELECT value FROM json_each(:ids))

-- name: prune_timed_keys
DELETE FROM litequeue_timed_keys WHERE job IN (SELECT value FROM json_each(:ids))

-- name: prune_takes
DELETE FROM litequeue_limited WHERE job IN (SELECT value FROM json_each(:ids))

-- An id is never used twice: it identifies a late worker. AUTOINCREMENT would see to that too, by another page with each commit,
-- which is a fifth of an enqueue. So the newest job is never deleted, and keeps nothing but its id.
-- name: empty_newest
UPDATE litequeue_jobs
SET task = '', queue = '', payload = x'', result = NULL, key = NULL, key_scope = NULL, held_key = NULL, tags = NULL,
    schedule = NULL, progress = NULL, started_at = NULL, delete_at = 0
WHERE id = (SELECT max(id) FROM litequeue_jobs) AND id IN (SELECT value FROM json_each(:ids))

-- The one that was emptied while it was the newest, if it is no more.
-- name: prune_emptied
DELETE FROM litequeue_jobs WHERE delete_at = 0 AND id < (SELECT max(id) FROM litequeue_jobs)

-- name: prune
DELETE FROM litequeue_jobs
WHERE id IN (SELECT value FROM json_each(:ids)) AND id < (SELECT max(id) FROM litequeue_jobs)

-- name: next_prune
SELECT min(delete_at) FROM litequeue_jobs
WHERE delete_at IS NOT NULL AND (delete_at <> 0 OR id < (SELECT max(id) FROM litequeue_jobs))
