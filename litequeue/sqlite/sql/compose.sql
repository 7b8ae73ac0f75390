-- What runs after what: see schema/003_compose.sql. Lists of nodes are JSON.
-- name: has_edges
SELECT EXISTS (SELECT 1 FROM litequeue_edges)

-- name: has_compositions
SELECT EXISTS (SELECT 1 FROM litequeue_edges) OR EXISTS (SELECT 1 FROM litequeue_dependents)

-- ---- storing

-- name: number_group
INSERT INTO litequeue_groups (created_at, members) VALUES (:now, :members) RETURNING id

-- As many at once as there are rows of values.
-- name: add_edges
INSERT OR IGNORE INTO litequeue_edges (parent, child, place, own) VALUES (?, ?, ?, ?)

-- name: add_dependents
INSERT INTO litequeue_dependents (node, unended, runs_on, waits, delay, expires) VALUES (?, ?, ?, ?, ?, ?)

-- What is on record of jobs, and up to which child their ends were told: beyond it they still are to be.
-- name: standing_of
SELECT job.id, job.state, unspread.after
FROM json_each(:ids) AS wanted
CROSS JOIN litequeue_jobs AS job ON job.id = wanted.value
LEFT JOIN litequeue_unspread AS unspread ON unspread.node = job.id
WHERE job.delete_at IS NULL OR job.delete_at > :now

-- name: is_held_by_parents
SELECT 1 FROM litequeue_dependents WHERE node = :node AND waits = 1

-- ---- keys of whole compositions

-- name: composition_holder
SELECT of_whole.node, of_whole.digest, of_whole.key_scope,
       CASE WHEN of_whole.node > 0 THEN job.state
            ELSE CASE WHEN dependent.unended > 0 THEN 1 WHEN dependent.node IS NOT NULL THEN 4 END END,
       job.delete_at <= :now, of_whole.held_until > :now, of_whole.held_until - :now > of_whole.held_for
FROM litequeue_composition_keys AS of_whole
LEFT JOIN litequeue_jobs AS job ON job.id = of_whole.node
LEFT JOIN litequeue_dependents AS dependent ON dependent.node = of_whole.node
WHERE of_whole.key = :key

-- name: hold_composition_key
INSERT OR REPLACE INTO litequeue_composition_keys (key, node, digest, key_scope, held_until, held_for)
VALUES (:key, :node, :digest, :scope, :now + :held_for, :held_for)

-- name: hold_composition_key_again
UPDATE litequeue_composition_keys SET held_until = :now + held_for WHERE key = :key

-- name: states_among
SELECT job.id, job.state FROM json_each(:ids) AS wanted CROSS JOIN litequeue_jobs AS job ON job.id = wanted.value

-- name: created_among
SELECT job.id, job.created_at FROM json_each(:ids) AS wanted CROSS JOIN litequeue_jobs AS job ON job.id = wanted.value

-- ---- ends

-- What waits for these nodes, the first of them behind a child. In the order of the nodes, and of their children.
-- name: children
SELECT node.value, edge.child, dependent.runs_on, dependent.waits, dependent.ended_by
FROM json_each(:nodes) AS node
CROSS JOIN litequeue_edges AS edge
    ON edge.parent = node.value AND edge.child > CASE node.key WHEN 0 THEN :after ELSE -9223372036854775807 END
CROSS JOIN litequeue_dependents AS dependent ON dependent.node = edge.child
LIMIT CAST(:limit AS INTEGER)

-- So many parents of each have ended: [[node, count], ...]. Where none is left that is not told again: in a circle, which only
-- someone else can write, it would not end.
-- name: count_down
UPDATE litequeue_dependents SET unended = max(0, unended - ended.count)
FROM (SELECT json_extract(value, '$[0]') AS child, json_extract(value, '$[1]') AS count FROM json_each(:counts)) AS ended
WHERE node = ended.child AND unended > 0
RETURNING node, unended, runs_on, waits, ended_by, ended_as

-- [[node, ended_by, ended_as], ...].
-- name: end_dependents
UPDATE litequeue_dependents SET waits = 0, ended_by = ended.parent, ended_as = ended.state
FROM (SELECT json_extract(value, '$[0]') AS child, json_extract(value, '$[1]') AS parent, json_extract(value, '$[2]') AS state
      FROM json_each(:ends)) AS ended
WHERE node = ended.child

-- Jobs that do not run: [[job, parent, state of that], ...]. One that was ended by its parent is kept as long as that; where
-- that has succeeded it is gone at once. parent NULL: somebody cancels it; state 8: somebody deleted the parent.
-- name: cancel_together
UPDATE litequeue_jobs
SET state = 6, finished_at = :now,
    delete_at = max(CASE WHEN ended.parent IS NULL THEN :delete_at WHEN ended.state = 4 THEN :now
                         WHEN ended.state = 8 THEN coalesce(:delete_at, :now)
                         ELSE (SELECT delete_at FROM litequeue_jobs AS parent WHERE parent.id = ended.parent) END,
                    CASE WHEN key IS NULL THEN 0.0 ELSE coalesce(
                        (SELECT held_until FROM litequeue_timed_keys WHERE job = litequeue_jobs.id), 0.0) END)
FROM (SELECT json_extract(value, '$[0]') AS child, json_extract(value, '$[1]') AS parent, json_extract(value, '$[2]') AS state
      FROM json_each(:ends)) AS ended
WHERE litequeue_jobs.id = ended.child AND litequeue_jobs.state < 3 AND (ended.parent IS NULL OR litequeue_jobs.state = 2)
RETURNING id

-- Their parents hold them no more: they may begin, at once or after their delay.
-- name: let_begin
UPDATE litequeue_jobs
SET state = CASE WHEN dependent.delay > 0 OR (dependent.delay IS NULL AND run_at > :now) THEN 0 ELSE 1 END,
    run_at = CASE WHEN dependent.delay IS NULL THEN run_at ELSE :now + dependent.delay END,
    expires_at = CASE WHEN dependent.expires IS NULL THEN expires_at ELSE :now + dependent.expires END
FROM (SELECT node, delay, expires FROM json_each(:nodes) AS ready
      CROSS JOIN litequeue_dependents ON node = ready.value) AS dependent
WHERE litequeue_jobs.id = dependent.node AND litequeue_jobs.state = 2
RETURNING id

-- name: hold_no_more
UPDATE litequeue_dependents SET waits = 0 WHERE node IN (SELECT value FROM json_each(:nodes)) AND waits = 1

-- Those for which nothing waits are done.
-- name: put_off
INSERT INTO litequeue_unspread (node, ended_by, ended_as, is_over, after)
SELECT :node, :ended_by, :ended_as, :is_over, :after WHERE EXISTS (SELECT 1 FROM litequeue_edges WHERE parent = :node)
ON CONFLICT (node) DO UPDATE SET ended_by = excluded.ended_by, ended_as = excluded.ended_as,
    is_over = max(is_over, excluded.is_over), after = CASE WHEN is_over < excluded.is_over THEN excluded.after ELSE after END

-- name: put_off_first
SELECT node, ended_by, ended_as, is_over, after FROM litequeue_unspread ORDER BY node LIMIT CAST(:limit AS INTEGER)

-- name: has_put_off
SELECT EXISTS (SELECT 1 FROM litequeue_unspread)

-- Whether the end of a job, or of what comes after it, is still to be told.
-- name: is_put_off
SELECT EXISTS (SELECT 1 FROM litequeue_unspread) AND EXISTS (
    WITH RECURSIVE part (node) AS (
        SELECT CAST(:node AS INTEGER)
        UNION
        SELECT edge.child FROM part CROSS JOIN litequeue_edges AS edge ON edge.parent = part.node)
    SELECT 1 FROM part CROSS JOIN litequeue_unspread ON litequeue_unspread.node = part.node)

-- name: take_up
DELETE FROM litequeue_unspread WHERE node IN (SELECT value FROM json_each(:nodes))

-- ---- a retry

-- name: parents_of
SELECT edge.parent, job.state, dependent.unended, dependent.ended_by, dependent.ended_as
FROM litequeue_edges AS edge
LEFT JOIN litequeue_jobs AS job ON job.id = edge.parent
LEFT JOIN litequeue_dependents AS dependent ON dependent.node = edge.parent AND edge.parent < 0
WHERE edge.child = :node

-- name: dependent
SELECT unended, runs_on, waits, ended_by, ended_as FROM litequeue_dependents WHERE node = :node

-- name: children_to_revive
SELECT node.value, edge.child, dependent.unended, dependent.runs_on, dependent.ended_by
FROM json_each(:nodes) AS node
CROSS JOIN litequeue_edges AS edge ON edge.parent = node.value
CROSS JOIN litequeue_dependents AS dependent ON dependent.node = edge.child

-- name: count_up
UPDATE litequeue_dependents SET unended = unended + again.count
FROM (SELECT json_extract(value, '$[0]') AS child, json_extract(value, '$[1]') AS count FROM json_each(:counts)) AS again
WHERE node = again.child

-- A parent of each, but groups first, that has ended and not succeeded: [[child, the one that is healed], ...]. It is looked
-- for behind that one, and then from the first on: of a group whose members are retried one after another, each is seen once.
-- name: other_bad_parents
SELECT marked.child,
       coalesce((SELECT dependent.ended_by * 10 + dependent.ended_as FROM litequeue_edges AS edge
                 CROSS JOIN litequeue_dependents AS dependent ON dependent.node = edge.parent
                 WHERE edge.child = marked.child AND edge.parent < 0 AND dependent.ended_by IS NOT NULL LIMIT 1),
                (SELECT job.id * 10 + job.state FROM litequeue_edges AS edge CROSS JOIN litequeue_jobs AS job ON job.id = edge.parent
                 WHERE edge.child = marked.child AND edge.parent > 0 AND job.state > 4
                       AND (edge.place, edge.parent) > ((SELECT place FROM litequeue_edges AS healed
                                                         WHERE healed.parent = marked.healed AND healed.child = marked.child
                                                         ORDER BY place LIMIT 1), marked.healed)
                 ORDER BY edge.place, edge.parent LIMIT 1),
                (SELECT job.id * 10 + job.state FROM litequeue_edges AS edge CROSS JOIN litequeue_jobs AS job ON job.id = edge.parent
                 WHERE edge.child = marked.child AND edge.parent > 0 AND job.state > 4 LIMIT 1))
FROM (SELECT json_extract(value, '$[0]') AS child, json_extract(value, '$[1]') AS healed FROM json_each(:marked)) AS marked

-- [[node, ended_by or null, ended_as or null, waits], ...].
-- name: point_again
UPDATE litequeue_dependents SET waits = again.waits, ended_by = again.parent, ended_as = again.state
FROM (SELECT json_extract(value, '$[0]') AS child, json_extract(value, '$[1]') AS parent, json_extract(value, '$[2]') AS state,
             json_extract(value, '$[3]') AS waits FROM json_each(:again)) AS again
WHERE node = again.child

-- Jobs that another parent than before has ended from now on are kept as long as that one.
-- name: keep_as_long
UPDATE litequeue_jobs SET delete_at = max(litequeue_jobs.delete_at, parent.delete_at)
FROM (SELECT dependent.node, job.delete_at FROM json_each(:ids) AS wanted
      CROSS JOIN litequeue_dependents AS dependent ON dependent.node = wanted.value
      CROSS JOIN litequeue_jobs AS job ON job.id = dependent.ended_by AND job.state > 4) AS parent
WHERE id = parent.node AND state = 6

-- name: keyed_among
SELECT job.id, job.task, job.key FROM json_each(:ids) AS wanted
CROSS JOIN litequeue_jobs AS job ON job.id = wanted.value WHERE job.key IS NOT NULL

-- name: revive
UPDATE litequeue_jobs
SET state = 2, run_at = :now, failures = 0, deaths = 0, finished_at = NULL, delete_at = NULL, expires_at = NULL,
    cancel_requested = 0, held_key = CASE WHEN EXISTS (SELECT 1 FROM litequeue_timed_keys WHERE job = litequeue_jobs.id AND held_until <= :now)
                                          THEN NULL ELSE key END, progress = NULL
WHERE id IN (SELECT value FROM json_each(:ids)) AND state = 6

-- ---- a cancel

-- name: is_last
SELECT EXISTS (SELECT 1 FROM litequeue_edges WHERE child = :node AND own = 1)
       AND NOT EXISTS (SELECT 1 FROM litequeue_edges WHERE parent = :node AND own = 1)

-- name: last_among
SELECT value FROM json_each(:ids) AS wanted
WHERE EXISTS (SELECT 1 FROM litequeue_edges WHERE child = wanted.value AND own = 1)
      AND NOT EXISTS (SELECT 1 FROM litequeue_edges WHERE parent = wanted.value AND own = 1)

-- The jobs of a composition that have not ended, from its last node up.
-- name: unended_parts
WITH RECURSIVE part (node) AS (
    SELECT CAST(:node AS INTEGER)
    UNION
    SELECT edge.parent FROM part CROSS JOIN litequeue_edges AS edge ON edge.child = part.node AND edge.own = 1)
SELECT job.id, job.state FROM part CROSS JOIN litequeue_jobs AS job ON job.id = part.node
WHERE job.state < 4 AND job.cancel_requested = 0 LIMIT CAST(:limit AS INTEGER)

-- name: ask_parts
UPDATE litequeue_jobs SET cancel_requested = 1 WHERE id IN (SELECT value FROM json_each(:ids)) AND state = 3

-- ---- what is handed on, and groups as users see them

-- The parent whose result a job takes, and whether it is called where that one fails.
-- name: gives
SELECT edge.parent, dependent.runs_on = 2 FROM litequeue_edges AS edge
LEFT JOIN litequeue_dependents AS dependent ON dependent.node = edge.child
WHERE edge.child = :child AND edge.place >= 0 ORDER BY edge.place LIMIT 1

-- The single job whose result each of these takes; one that is called where that fails takes no result.
-- name: giving_among
SELECT edge.child, edge.parent FROM json_each(:ids) AS taker
CROSS JOIN litequeue_edges AS edge ON edge.child = taker.value AND edge.place = 0
LEFT JOIN litequeue_dependents AS dependent ON dependent.node = edge.child
WHERE edge.parent > 0 AND dependent.runs_on IS NOT 2

-- Where they are in the job's row.
-- name: results_among
SELECT job.id, job.result FROM json_each(:ids) AS giving CROSS JOIN litequeue_jobs AS job ON job.id = giving.value
WHERE job.state = 4 AND job.result IS NOT NULL

-- name: ended_parent
SELECT id, task, state, failures,
       CASE WHEN state = 4 THEN coalesce(result, (SELECT result FROM litequeue_results WHERE job = litequeue_jobs.id)) END
FROM litequeue_jobs WHERE id = :id

-- The members of a group, in their order.
-- name: members
SELECT edge.place, edge.parent, job.task, job.state, job.failures,
       CASE WHEN job.state = 4 THEN coalesce(job.result, (SELECT result FROM litequeue_results WHERE litequeue_results.job = edge.parent)) END
FROM litequeue_edges AS edge LEFT JOIN litequeue_jobs AS job ON job.id = edge.parent
WHERE edge.child = :group AND edge.place > :after ORDER BY edge.place LIMIT CAST(:limit AS INTEGER)

-- name: last_error
SELECT type, message, traceback FROM litequeue_errors WHERE job = :id ORDER BY attempt DESC LIMIT 1

-- name: group
SELECT created_at, members, coalesce(unended, 0) FROM litequeue_groups
LEFT JOIN litequeue_dependents ON node = -litequeue_groups.id WHERE id = :group

-- name: member_count
SELECT members FROM litequeue_groups WHERE id = :group

-- name: member_nodes
SELECT edge.place, edge.parent, coalesce(job.task, '') FROM litequeue_edges AS edge
LEFT JOIN litequeue_jobs AS job ON job.id = edge.parent WHERE edge.child = :group AND edge.place >= 0 ORDER BY edge.place

-- How many members of a group, and of those in it, are jobs, have not ended, and have ended otherwise than well.
-- name: group_progress
WITH RECURSIVE part (node) AS (
    SELECT CAST(:group AS INTEGER)
    UNION
    SELECT edge.parent FROM part CROSS JOIN litequeue_edges AS edge ON edge.child = part.node WHERE edge.parent < 0)
SELECT count(*), coalesce(sum(job.state < 4), 0), coalesce(sum(job.state > 4), 0)
FROM part CROSS JOIN litequeue_edges AS edge ON edge.child = part.node AND edge.parent > 0
LEFT JOIN litequeue_jobs AS job ON job.id = edge.parent

-- name: group_is_flat
SELECT dependent.ended_by IS NULL AND NOT EXISTS (SELECT 1 FROM litequeue_edges WHERE child = :group AND parent < 0)
FROM litequeue_dependents AS dependent WHERE node = :group

-- name: group_ids
WITH RECURSIVE part (node) AS (
    SELECT CAST(:group AS INTEGER)
    UNION
    SELECT edge.parent FROM part CROSS JOIN litequeue_edges AS edge ON edge.child = part.node WHERE edge.parent < 0)
SELECT DISTINCT edge.parent FROM part CROSS JOIN litequeue_edges AS edge ON edge.child = part.node AND edge.parent > 0
ORDER BY edge.parent

-- For a tree: what is next to a node, before it and after it; then one node as it stands.
-- name: edges_up
SELECT parent FROM litequeue_edges WHERE child = :node GROUP BY parent ORDER BY min(place), parent LIMIT CAST(:limit AS INTEGER)

-- name: edges_down
SELECT DISTINCT child FROM litequeue_edges WHERE parent = :node ORDER BY child LIMIT CAST(:limit AS INTEGER)

-- name: count_edges_up
SELECT count(DISTINCT parent) FROM litequeue_edges WHERE child = :node

-- name: count_edges_down
SELECT count(DISTINCT child) FROM litequeue_edges WHERE parent = :node

-- name: node
SELECT job.task, job.state, job.reason, of_group.members, dependent.unended, dependent.runs_on, dependent.ended_by
FROM (SELECT CAST(:node AS INTEGER) AS id) AS asked
LEFT JOIN litequeue_job_listed AS job ON job.id = asked.id
LEFT JOIN litequeue_groups AS of_group ON of_group.id = -asked.id
LEFT JOIN litequeue_dependents AS dependent ON dependent.node = asked.id

-- Of the jobs of a group and of those in it.
-- name: group_states
WITH RECURSIVE part (node) AS (
    SELECT CAST(:group AS INTEGER)
    UNION
    SELECT edge.parent FROM part CROSS JOIN litequeue_edges AS edge ON edge.child = part.node WHERE edge.parent < 0)
SELECT CASE WHEN job.state = 2 AND EXISTS (SELECT 1 FROM litequeue_parked WHERE litequeue_parked.job = job.id) THEN 1
            ELSE job.state END AS stands, count(DISTINCT job.id)
FROM part CROSS JOIN litequeue_edges AS edge ON edge.child = part.node AND edge.parent > 0
CROSS JOIN litequeue_jobs AS job ON job.id = edge.parent GROUP BY stands

-- What a job waits for: those that have not ended, and those that are not there, these first.
-- name: unended_parents
SELECT parent, is_there FROM
    (SELECT DISTINCT edge.parent,
            CASE WHEN edge.parent > 0 THEN EXISTS (SELECT 1 FROM litequeue_jobs WHERE id = edge.parent)
                 ELSE EXISTS (SELECT 1 FROM litequeue_groups WHERE id = -edge.parent) END AS is_there
     FROM litequeue_edges AS edge WHERE edge.child = :node)
WHERE NOT is_there OR CASE WHEN parent > 0 THEN (SELECT job.state < 4 FROM litequeue_jobs AS job WHERE job.id = parent)
                           ELSE (SELECT unended > 0 FROM litequeue_dependents WHERE node = parent) END
ORDER BY is_there, parent LIMIT CAST(:limit AS INTEGER)

-- name: count_unended_parents
SELECT coalesce(sum(parent > 0), 0), coalesce(sum(parent < 0), 0) FROM
    (SELECT DISTINCT edge.parent FROM litequeue_edges AS edge WHERE edge.child = :node LIMIT CAST(:most AS INTEGER))
WHERE CASE WHEN parent > 0 THEN (SELECT job.state < 4 FROM litequeue_jobs AS job WHERE job.id = parent)
           ELSE (SELECT unended > 0 FROM litequeue_dependents WHERE node = parent) END

-- ---- pruning

-- What takes the results of these: groups, and jobs that are kept and have not succeeded, with how long they are.
-- name: takers
SELECT edge.parent, edge.child,
       CASE WHEN edge.child > 0 THEN CASE WHEN taker.state < 4 THEN :later ELSE max(:later, coalesce(taker.delete_at, 9e15)) END END
FROM json_each(:nodes) AS node
CROSS JOIN litequeue_edges AS edge ON edge.parent = node.value AND edge.place >= 0
LEFT JOIN litequeue_jobs AS taker ON taker.id = edge.child
WHERE edge.child < 0 OR (taker.state <> 4 AND (taker.delete_at IS NULL OR taker.delete_at > :now))

-- Those whose ends, or those of their groups, are not told yet, and those that hold the key of a composition for a time.
-- name: untold_among
SELECT node, :later FROM json_each(:nodes) AS wanted CROSS JOIN litequeue_unspread ON node = wanted.value
UNION ALL
SELECT edge.parent, :later FROM litequeue_unspread CROSS JOIN litequeue_edges AS edge ON edge.child = node
WHERE node < 0 AND edge.parent IN (SELECT value FROM json_each(:nodes))
UNION ALL
SELECT node, held_until FROM json_each(:nodes) AS wanted CROSS JOIN litequeue_composition_keys ON node = wanted.value
WHERE held_until > :now

-- A group that has not ended is needed, and one whose results a job takes; one in another group where that one is.
-- name: group_needed
SELECT NULL, :later FROM litequeue_dependents WHERE node = :group AND unended > 0
UNION ALL
SELECT NULL, :later FROM litequeue_unspread WHERE node = :group
UNION ALL
SELECT NULL, held_until FROM litequeue_composition_keys WHERE node = :group AND held_until > :now
UNION ALL
SELECT * FROM (
    SELECT NULL, CASE WHEN taker.state < 4 THEN :later ELSE max(:later, coalesce(taker.delete_at, 9e15)) END
    FROM litequeue_edges AS edge CROSS JOIN litequeue_jobs AS taker ON taker.id = edge.child
    WHERE edge.parent = :group AND edge.child > 0 AND edge.place >= 0
          AND taker.state <> 4 AND (taker.delete_at IS NULL OR taker.delete_at > :now) LIMIT 1)
UNION ALL
SELECT child, NULL FROM litequeue_edges WHERE parent = :group AND child < 0

-- name: keep_on
UPDATE litequeue_jobs SET delete_at = ? WHERE id = ?

-- name: groups_beside
SELECT edge.child FROM json_each(:nodes) AS node CROSS JOIN litequeue_edges AS edge ON edge.parent = node.value WHERE edge.child < 0
UNION
SELECT edge.parent FROM json_each(:nodes) AS node CROSS JOIN litequeue_edges AS edge ON edge.child = node.value WHERE edge.parent < 0

-- What one of these has ended names it from now on: it is retried no more. Groups, and jobs that do not run.
-- name: name_for_good
UPDATE litequeue_dependents SET ended_by = lost.parent, ended_as = lost.state
FROM (SELECT edge.child, coalesce(job.id, inside.ended_by) AS parent, coalesce(job.state, inside.ended_as) AS state
      FROM json_each(:nodes) AS node
      CROSS JOIN litequeue_edges AS edge ON edge.parent = node.value
      LEFT JOIN litequeue_jobs AS job ON job.id = node.value
      LEFT JOIN litequeue_dependents AS inside ON inside.node = node.value AND node.value < 0
      WHERE job.state > 4 OR inside.ended_by IS NOT NULL) AS lost
WHERE node = lost.child AND ended_by IS NOT NULL

-- name: forget_edges_from
DELETE FROM litequeue_edges WHERE parent IN (SELECT value FROM json_each(:nodes))

-- name: forget_edges_to
DELETE FROM litequeue_edges WHERE (parent, child) IN
    (SELECT edge.parent, edge.child FROM json_each(:nodes) AS node CROSS JOIN litequeue_edges AS edge ON edge.child = node.value)

-- name: forget_dependents
DELETE FROM litequeue_dependents WHERE node IN (SELECT value FROM json_each(:nodes))

-- name: forget_keys_of_wholes
DELETE FROM litequeue_composition_keys WHERE key IN
    (SELECT held.key FROM json_each(:nodes) AS whole CROSS JOIN litequeue_composition_keys AS held ON held.node = whole.value)

-- Groups in which no job is left. One that never had a member is an empty list in the result of what it is in, and stands
-- as long as that, or as a job that takes it.
-- name: empty_among
SELECT node.value FROM json_each(:nodes) AS node
WHERE NOT EXISTS (
    WITH RECURSIVE part (node) AS (
        SELECT node.value
        UNION
        SELECT edge.parent FROM part CROSS JOIN litequeue_edges AS edge ON edge.child = part.node
        WHERE edge.parent < 0 AND edge.place >= 0)
    SELECT 1 FROM part CROSS JOIN litequeue_edges AS edge ON edge.child = part.node AND edge.place >= 0 WHERE edge.parent > 0)
  AND (EXISTS (SELECT 1 FROM litequeue_groups WHERE id = -node.value AND members > 0) OR NOT EXISTS (
    WITH RECURSIVE around (node) AS (
        SELECT node.value
        UNION
        SELECT edge.child FROM around CROSS JOIN litequeue_edges AS edge ON edge.parent = around.node
        WHERE around.node < 0 AND edge.place >= 0)
    SELECT 1 FROM around WHERE around.node > 0
        OR EXISTS (SELECT 1 FROM litequeue_edges WHERE child = around.node AND place >= 0 AND parent > 0)))

-- name: forget_groups
DELETE FROM litequeue_groups WHERE id IN (SELECT -value FROM json_each(:nodes))

-- ---- a repair, of what somebody deleted or changed by hand

-- name: lost_parents
SELECT edge.parent, edge.child, edge.place, dependent.runs_on, dependent.waits, dependent.ended_by
FROM litequeue_edges AS edge CROSS JOIN litequeue_dependents AS dependent ON dependent.node = edge.child
WHERE NOT (EXISTS (SELECT 1 FROM litequeue_jobs WHERE id = edge.parent)
           OR EXISTS (SELECT 1 FROM litequeue_groups WHERE id = -edge.parent))

-- What waits, and groups, with how many of their parents have not ended, where that is not what stands there.
-- name: miscounted
SELECT * FROM
    (SELECT node, runs_on, ended_by, unended,
            (SELECT count(*) FROM litequeue_edges AS edge WHERE edge.child = dependent.node
             AND CASE WHEN edge.parent > 0 THEN
                     (SELECT job.state < 4 FROM litequeue_jobs AS job WHERE job.id = edge.parent)
                     OR EXISTS (SELECT 1 FROM litequeue_unspread AS told WHERE told.node = edge.parent AND told.after < edge.child)
                 ELSE
                     (SELECT inner_one.unended > 0 FROM litequeue_dependents AS inner_one WHERE inner_one.node = edge.parent)
                     OR EXISTS (SELECT 1 FROM litequeue_unspread AS told
                                WHERE told.node = edge.parent AND told.is_over = 1 AND told.after < edge.child) END) AS parents
     FROM litequeue_dependents AS dependent WHERE waits = 1 OR node < 0)
WHERE unended <> parents

-- [[node, count], ...].
-- name: recount
UPDATE litequeue_dependents SET unended = counted.parents
FROM (SELECT json_extract(value, '$[0]') AS child, json_extract(value, '$[1]') AS parents FROM json_each(:counts)) AS counted
WHERE node = counted.child

-- name: drop_orphaned_edges
DELETE FROM litequeue_edges
WHERE NOT (EXISTS (SELECT 1 FROM litequeue_jobs WHERE id = parent) OR EXISTS (SELECT 1 FROM litequeue_groups WHERE id = -parent))
      OR NOT (EXISTS (SELECT 1 FROM litequeue_jobs WHERE id = child) OR EXISTS (SELECT 1 FROM litequeue_groups WHERE id = -child))

-- name: drop_orphaned_groups
DELETE FROM litequeue_groups WHERE members > 0 AND NOT EXISTS (SELECT 1 FROM litequeue_edges WHERE child = -litequeue_groups.id)

-- name: drop_orphaned_dependents
DELETE FROM litequeue_dependents
WHERE NOT (EXISTS (SELECT 1 FROM litequeue_jobs WHERE id = node) OR EXISTS (SELECT 1 FROM litequeue_groups WHERE id = -node))

-- name: drop_orphaned_composition_keys
DELETE FROM litequeue_composition_keys
WHERE NOT (EXISTS (SELECT 1 FROM litequeue_jobs WHERE id = node) OR EXISTS (SELECT 1 FROM litequeue_groups WHERE id = -node))

-- name: drop_orphaned_unspread
DELETE FROM litequeue_unspread
WHERE NOT (EXISTS (SELECT 1 FROM litequeue_jobs WHERE id = node) OR EXISTS (SELECT 1 FROM litequeue_groups WHERE id = -node))
