"""What calls functions: threads, an event loop. Knows claimed jobs, and no store."""
