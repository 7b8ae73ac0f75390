"""One database file: opened, guarded, migrated, never used across a fork."""
