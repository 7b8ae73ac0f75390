"""Child processes for tasks with `process=True`: how one is started, talked to, and how it ended."""
