"""How ids of jobs are written. Knows no row."""

from __future__ import annotations

import re

_OTHER_ID = re.compile("0|-[1-9][0-9]*")  # a row of someone else's


def is_id(job_id: str) -> bool:
    """Whether it is written as ids are: SQLite would also take `1.0`, ` 1` and `01` for the number 1."""
    return job_id.isascii() and ((job_id.isdecimal() and job_id[0] != "0") or bool(_OTHER_ID.fullmatch(job_id)))
