-- The file as such.
-- name: ours
SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'litequeue_meta'

-- name: any_table
SELECT 1 FROM sqlite_schema LIMIT 1

-- name: get_meta
SELECT value FROM litequeue_meta WHERE name = :name

-- name: set_meta
INSERT OR REPLACE INTO litequeue_meta (name, value) VALUES (:name, :value)
