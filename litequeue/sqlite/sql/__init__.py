"""The named statements of `queries.sql`."""

from __future__ import annotations

import pkgutil
import re


def _load() -> dict[str, str]:
    data = pkgutil.get_data(__name__, "queries.sql")  # also from a zip file
    if data is None:
        raise FileNotFoundError("queries.sql is missing from the installed package")
    text = data.decode().replace("\r\n", "\n")
    parts = re.split(r"^-- name: (\w+)\n", text, flags=re.MULTILINE)[1:]
    statements = zip(parts[::2], parts[1::2], strict=True)
    return {name: re.sub(r"^--.*\n", "", sql, flags=re.MULTILINE).strip() for name, sql in statements}


SQL: dict[str, str] = _load()
