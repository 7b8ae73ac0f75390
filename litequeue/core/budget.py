"""How large one transaction may be: others wait for its lock, and it stands in memory as a whole. Knows no job."""

BUDGET = 1 << 20  # bytes of payloads and results; one that is larger by itself has a transaction of its own
