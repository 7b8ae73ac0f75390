"""Put the figures of a run where the README shows them. Knows no figure."""

from __future__ import annotations

import re
import time
from pathlib import Path


def replace(readme: str, part: str, text: str) -> None:
    """Put `text`, with today's date, between the markers of that part."""
    path = Path(readme)
    begin, end = f"<!-- {part}: written by make -->", f"<!-- end of {part} -->"
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    filled = f"{begin}\n{time.strftime('%Y-%m-%d')}. {text.strip()}\n{end}"
    old = path.read_text(encoding="utf-8")
    if not pattern.search(old):
        raise SystemExit(f"{readme} has no place for {part}: it needs the lines {begin} and {end}")
    path.write_text(pattern.sub(lambda _: filled, old), encoding="utf-8")
