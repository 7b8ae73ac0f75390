"""The statements that change jobs and schedules, and rows as values."""
