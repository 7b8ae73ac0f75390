-- What runs after what. A node is a job, by its id, or a group, by the negative of its number. Of a plain job nothing is
-- kept here. A new column of litequeue_jobs would have SQLite read all rows, since the table has CHECKs.

CREATE TABLE litequeue_groups (
    id         INTEGER PRIMARY KEY AUTOINCREMENT,
    created_at REAL NOT NULL,
    members    INTEGER NOT NULL CHECK (members BETWEEN 0 AND 10000000) -- core/plan.py; a reader makes a list of that length
) STRICT;

-- From a node to one that waits for it.
CREATE TABLE litequeue_edges (
    parent INTEGER NOT NULL,
    child  INTEGER NOT NULL CHECK (child <> parent),
    place  INTEGER NOT NULL CHECK (place BETWEEN -1 AND 9999999), -- of a member in its group; 0: a job takes the parent's result; -1: nothing of it
    own    INTEGER NOT NULL CHECK (own IN (0, 1)), -- of one composition, which a cancel of its last node ends as a whole
    PRIMARY KEY (parent, child, place)
) STRICT, WITHOUT ROWID;

CREATE INDEX litequeue_edges_child ON litequeue_edges (child, place, parent, own);

-- The nodes that have parents, and groups. A job that waits is waiting (state 2).
CREATE TABLE litequeue_dependents (
    node     INTEGER PRIMARY KEY,
    unended  INTEGER NOT NULL CHECK (unended >= 0), -- of its parents
    runs_on  INTEGER NOT NULL CHECK (runs_on BETWEEN 0 AND 3), -- 0: success of all, 1: any end, 2: failure; 3: a group
    waits    INTEGER NOT NULL CHECK (waits IN (0, 1)), -- a job that its parents hold
    delay    REAL, -- seconds from the end of its last parent; NULL: it has a time of its own
    expires  REAL, -- seconds from then
    ended_by INTEGER, -- the parent that ended it, or a group as one that has not succeeded
    ended_as INTEGER CHECK (ended_as BETWEEN 4 AND 8), -- the state of that one; 8: it was deleted by hand
    CHECK ((ended_by IS NULL) = (ended_as IS NULL))
) STRICT;

-- Ends whose consequences were too many for their transaction: they go on behind the child `after`.
CREATE TABLE litequeue_unspread (
    node     INTEGER PRIMARY KEY,
    ended_by INTEGER NOT NULL,
    ended_as INTEGER NOT NULL CHECK (ended_as BETWEEN 4 AND 8),
    is_over  INTEGER NOT NULL CHECK (is_over IN (0, 1)), -- 0: a group that will not succeed, and has members that have not ended
    after    INTEGER NOT NULL
) STRICT;

-- Keys of whole compositions. node: the last one. held_for: seconds; NULL: as key_scope says.
CREATE TABLE litequeue_composition_keys (
    key        TEXT PRIMARY KEY,
    node       INTEGER NOT NULL,
    digest     BLOB NOT NULL, -- of its calls
    key_scope  TEXT NOT NULL CHECK (key_scope IN ('kept', 'unfinished')),
    held_until REAL,
    held_for   REAL
) STRICT, WITHOUT ROWID;

CREATE INDEX litequeue_composition_keys_node ON litequeue_composition_keys (node);

-- Jobs whose results something that waits takes: those that are kept beyond their time. Not for others.
CREATE VIEW litequeue_needed AS
SELECT edge.parent AS job
FROM litequeue_edges AS edge
LEFT JOIN litequeue_jobs AS taker ON taker.id = edge.child
LEFT JOIN litequeue_dependents AS around ON around.node = edge.child AND edge.child < 0
WHERE edge.place >= 0
      AND (taker.state <> 4 OR around.unended > 0
           OR (edge.child < 0 AND EXISTS (
               SELECT 1 FROM litequeue_edges AS further CROSS JOIN litequeue_jobs AS last ON last.id = further.child
               WHERE further.parent = edge.child AND further.place >= 0 AND last.state <> 4)));

-- The views of 002 once more, with the reason why a job was cancelled: the end of a parent.
DROP VIEW litequeue_jobs_view;

CREATE VIEW litequeue_jobs_view AS
SELECT id, task, queue,
       CASE state WHEN 0 THEN 'scheduled' WHEN 1 THEN 'queued'
                  WHEN 2 THEN iif(EXISTS (SELECT 1 FROM litequeue_parked WHERE job = litequeue_jobs.id), 'queued', 'waiting')
                  WHEN 3 THEN 'running'
                  WHEN 4 THEN 'succeeded' WHEN 5 THEN 'failed' WHEN 6 THEN 'cancelled' ELSE 'expired' END AS status,
       priority, attempt, max(1, failures + (state <> 5)) AS tries, failures, deaths,
       strftime('%Y-%m-%d %H:%M:%f', created_at, 'unixepoch') AS created_at,
       strftime('%Y-%m-%d %H:%M:%f', run_at, 'unixepoch') AS run_at,
       strftime('%Y-%m-%d %H:%M:%f', started_at, 'unixepoch') AS started_at,
       strftime('%Y-%m-%d %H:%M:%f', finished_at, 'unixepoch') AS finished_at,
       strftime('%Y-%m-%d %H:%M:%f', expires_at, 'unixepoch') AS expires_at,
       strftime('%Y-%m-%d %H:%M:%f', delete_at, 'unixepoch') AS delete_at,
       key, key_scope, tags, schedule, progress, worker,
       CAST(coalesce(payload, (SELECT payload FROM litequeue_payloads WHERE job = litequeue_jobs.id)) AS TEXT) AS payload,
       CAST(CASE WHEN state = 4 THEN coalesce(result, (SELECT result FROM litequeue_results WHERE job = litequeue_jobs.id)) END
            AS TEXT) AS result,
       (SELECT type || ': ' || message FROM litequeue_errors WHERE job = litequeue_jobs.id
        ORDER BY attempt DESC LIMIT 1) AS last_error,
       CASE WHEN state = 6 THEN
           (SELECT 'parent ' || ended_by || CASE ended_as WHEN 4 THEN ' succeeded' WHEN 5 THEN ' failed' WHEN 6 THEN ' cancelled'
            WHEN 7 THEN ' expired' ELSE ' was deleted' END
            FROM litequeue_dependents WHERE node = litequeue_jobs.id AND ended_by IS NOT NULL) END AS reason
FROM litequeue_jobs WHERE delete_at IS NULL OR delete_at > 0;

-- What look-ups read; not for others. Those of 002 stay: older processes read them until they end.
CREATE VIEW litequeue_job_records AS
SELECT id, task, queue,
       iif(state = 2 AND EXISTS (SELECT 1 FROM litequeue_parked WHERE job = litequeue_jobs.id), 1, state) AS state,
       priority, attempt, failures, deaths, retries, created_at, run_at, started_at, finished_at, expires_at, key, tags, schedule, worker, cancel_requested, progress,
       CASE WHEN state = 6 THEN
           (SELECT 'parent ' || ended_by || CASE ended_as WHEN 4 THEN ' succeeded' WHEN 5 THEN ' failed' WHEN 6 THEN ' cancelled'
            WHEN 7 THEN ' expired' ELSE ' was deleted' END
            FROM litequeue_dependents WHERE node = litequeue_jobs.id AND ended_by IS NOT NULL) END AS reason,
       coalesce(payload, (SELECT payload FROM litequeue_payloads WHERE job = litequeue_jobs.id), x'') AS payload,
       CASE WHEN state = 4 THEN coalesce(result, (SELECT result FROM litequeue_results WHERE job = litequeue_jobs.id)) END AS result,
       CASE WHEN EXISTS (SELECT 1 FROM litequeue_errors WHERE job = litequeue_jobs.id) THEN
       (SELECT json_group_array(json_array(error.attempt, min(max(error.at, -1e15), 1e15), error.type, error.message, error.traceback))
        FROM (SELECT * FROM litequeue_errors WHERE job = litequeue_jobs.id ORDER BY attempt) AS error) END AS errors,
       delete_at
FROM litequeue_jobs;

-- What listings read: the same without what may be large; not for others either.
CREATE VIEW litequeue_job_listed AS
SELECT id, task, queue,
       iif(state = 2 AND EXISTS (SELECT 1 FROM litequeue_parked WHERE job = litequeue_jobs.id), 1, state) AS state,
       priority, attempt, failures, deaths, retries, created_at, run_at, started_at, finished_at, expires_at, key, tags, schedule, worker, cancel_requested, progress,
       CASE WHEN state = 6 THEN
           (SELECT 'parent ' || ended_by || CASE ended_as WHEN 4 THEN ' succeeded' WHEN 5 THEN ' failed' WHEN 6 THEN ' cancelled'
            WHEN 7 THEN ' expired' ELSE ' was deleted' END
            FROM litequeue_dependents WHERE node = litequeue_jobs.id AND ended_by IS NOT NULL) END AS reason,
       (SELECT type || ': ' || substr(message, 1, 200) FROM litequeue_errors WHERE job = litequeue_jobs.id
        ORDER BY attempt DESC LIMIT 1) AS last_error
FROM litequeue_jobs;

CREATE VIEW litequeue_groups_view AS
SELECT 'g' || id AS id, strftime('%Y-%m-%d %H:%M:%f', created_at, 'unixepoch') AS created_at, members,
       coalesce((SELECT unended FROM litequeue_dependents WHERE node = -litequeue_groups.id), 0) AS unended
FROM litequeue_groups;

CREATE VIEW litequeue_edges_view AS
SELECT iif(parent > 0, CAST(parent AS TEXT), 'g' || -parent) AS parent, iif(child > 0, CAST(child AS TEXT), 'g' || -child) AS child,
       CASE WHEN child < 0 THEN 'member' WHEN place = 0 THEN 'takes its result' ELSE 'waits' END AS what, place
FROM litequeue_edges;

-- The options of a scheduled call that have no column of their own: JSON, with the callbacks and their arguments. NULL: none.
ALTER TABLE litequeue_schedules ADD COLUMN options BLOB;

DROP VIEW litequeue_schedules_view;

CREATE VIEW litequeue_schedules_view AS
SELECT name, task, queue, CAST(payload AS TEXT) AS payload, trigger, overlap, catch_up,
       strftime('%Y-%m-%d %H:%M:%f', until, 'unixepoch') AS until, max_runs, expires, CAST(options AS TEXT) AS options,
       coalesce(module, 'file') AS origin, CASE WHEN paused THEN 'paused' ELSE 'active' END AS status, runs, skipped,
       strftime('%Y-%m-%d %H:%M:%f', next_at, 'unixepoch') AS next_at,
       strftime('%Y-%m-%d %H:%M:%f', last_at, 'unixepoch') AS last_at, last_job
FROM litequeue_schedules;
