"""The proof: the contents of the file, compared with what this process counts by itself."""

from __future__ import annotations

from typing import NamedTuple

from examples.demo import ledger as sql
from examples.demo.folder import Listing, changed, recount
from examples.demo.ledger import Ledger


class Check(NamedTuple):
    """One claim, and whether it holds."""

    holds: bool
    claim: str


def prove(listing: Listing, ledger: Ledger) -> list[Check]:
    """Check that each file was counted once, that none was lost, and that the counts are right."""
    files = ledger.rows(sql.FILES)
    return [*_nothing_lost(listing, ledger, files), *_counts_agree(listing, ledger, files)]


def _nothing_lost(listing: Listing, ledger: Ledger, files: list[tuple[str, str, int]]) -> list[Check]:
    states = dict(ledger.rows(sql.STATES))
    done, unread = states.get("succeeded", 0), states.get("failed", 0)
    paths = {path for path, _, _ in files}
    ended = f"{len(listing.files):,} jobs enqueued: {done:,} succeeded, {unread:,} failed, none left or lost"
    [(again,)] = ledger.rows(sql.CLAIMED_AGAIN)
    once = f"{len(paths):,} files have one row each; jobs claimed more than once: {again:,}"
    return [
        Check(done + unread == sum(states.values()) == len(listing.files), ended),
        Check(len(files) == len(paths) == done and paths <= listing.files.keys(), once),
    ]


def _counts_agree(listing: Listing, ledger: Ledger, files: list[tuple[str, str, int]]) -> list[Check]:
    [(rolled_up, rolled_bytes)] = ledger.rows(sql.ROLLED_UP)
    moved = {path for path, _, _ in files if changed(listing, path)}
    size = sum(counted if path in moved else listing.files[path][0] for path, _, counted in files)
    wrong = [path for path, digest, _ in files if path not in moved and recount(path) != digest]
    agree = f"{len(files) - len(moved):,} digests recomputed by this process, {len(wrong):,} differ"
    if moved:
        agree += f" ({len(moved):,} files have changed meanwhile and are left out)"
    return [
        Check(rolled_up == len(files), f"the roll-up adds up to {rolled_up:,} files: each was added once"),
        Check(rolled_bytes == size, f"the roll-up adds up to {rolled_bytes:,} bytes; os.stat says {size:,}"),
        Check(not wrong, agree),
    ]
