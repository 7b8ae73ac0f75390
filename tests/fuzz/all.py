"""All targets."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fuzz import beside, commands, decoders, rows

if TYPE_CHECKING:
    from fuzz.targets import Target

TARGETS: tuple[Target, ...] = (*decoders.TARGETS, *beside.TARGETS, *commands.TARGETS, *rows.TARGETS)
