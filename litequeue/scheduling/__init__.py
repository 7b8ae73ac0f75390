"""When something is due, and the schedules that are kept."""
