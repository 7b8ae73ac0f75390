"""What a simulation of limits reads in the file: the jobs that wait, and rows that no rule of theirs allows."""

WAITING = """
    SELECT job.id, job.task, job.queue, -job.priority, limited.takes, job.state = 2,
           CASE WHEN job.begun = 0 THEN job.expires_at END
    FROM litequeue_jobs AS job LEFT JOIN litequeue_limited AS limited ON limited.job = job.id
    WHERE job.state IN (1, 2)"""
LEAKS = {
    "parked, and not as the job says": """
        SELECT job FROM litequeue_parked AS parked LEFT JOIN litequeue_jobs AS job ON job.id = parked.job
        WHERE job.state IS NOT 2 OR job.queue <> parked.queue OR job.task <> parked.task
              OR -job.priority <> parked.rank""",
    "waiting for nothing": """
        SELECT id FROM litequeue_jobs WHERE state = 2 AND id NOT IN (SELECT job FROM litequeue_parked)""",
    "parked, and never looked at": """
        SELECT parked.job FROM litequeue_parked AS parked
        LEFT JOIN litequeue_full_keys AS lane USING (limit_name, key, queue, task) WHERE lane.look_at IS NULL""",
    "takes of no job": """
        SELECT job FROM litequeue_limited WHERE job NOT IN (SELECT id FROM litequeue_jobs)""",
    "order held by what has ended": """
        SELECT ordered.job FROM litequeue_ordered AS ordered
        LEFT JOIN litequeue_jobs AS job ON job.id = ordered.job WHERE coalesce(job.state, 9) > 3""",
    "left behind by none": """
        SELECT job FROM litequeue_left_behind WHERE worker NOT IN (SELECT id FROM litequeue_workers)""",
}
