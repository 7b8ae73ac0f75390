"""How large a transaction should be: others wait for its lock, and it stands in memory as a whole. Knows no job.

A batch of several callers, and a chunk of `enqueue_many`, ends once it has passed `BUDGET`: the call that passes it is
still in it. `enqueue_many` without `chunk=` is one transaction whatever its size.
"""

BUDGET = 1 << 20  # bytes of payloads and results
