"""The demo: count every file of a folder with two worker processes, kill one, and prove that nothing was lost."""
