"""Backup, repair and health of a file."""
