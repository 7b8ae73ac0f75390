"""What may be on the disk after the power is cut: all that was synced, and any part of what was not.

What is assumed, after sqlite.org/atomiccommit.html and SQLite's own crash tests (src/test6.c):

- A sync of a file makes all that was done to it durable, its size too. Before, each write may be there or not, in any
  order, or in part: of each sector of 512 bytes the new, the old, zeroes, or anything.
- Bytes outside of what was written are not harmed (SQLITE_IOCAP_POWERSAFE_OVERWRITE, which the unix VFS reports).
- A file may have grown before anything is written into it; then there are zeroes, or anything.
- That a file was made, renamed or deleted is durable once its folder has been synced, which SQLite does at the first
  sync of a new journal or WAL. Before, each name stands for what it stood for at any moment since. fsync of a file does
  not make its name durable, though on most file systems it does.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from power.disk import Event

SECTOR = 512
KEPT = (0.05, 0.3, 0.7, 0.95)  # how many of the writes not synced are there, by image
SECTORS = ("new",) * 4 + ("old",) * 3 + ("zeroes", "garbage")
GROWN = 0.3

Image = dict[str, bytes]  # by the name of the file


class File:
    """One file, whatever it is called: what is durable, and what was done to it since."""

    def __init__(self, durable: bytes = b"") -> None:
        self.durable = durable
        self.pending: list[Event] = []

    def now(self) -> bytes:
        """All of it, as a process sees it."""
        content = bytearray(self.durable)
        for event in self.pending:
            _do(content, event)
        return bytes(content)

    def sync(self) -> None:
        self.durable, self.pending = self.now(), []

    def after_cut(self, chance: Random) -> bytes:
        """What is durable, and some of the rest."""
        content = bytearray(self.durable)
        fates = _in_order(len(self.pending), chance) if chance.random() < 0.25 else _at_random(self.pending, chance)
        for event, fate in zip(self.pending, fates, strict=True):
            if fate == "kept":
                _do(content, event)
            elif fate == "torn" and event.what == "write":
                _tear(content, event, chance)
        missing = len(self.now()) - len(content)
        if missing > 0 and chance.random() < GROWN:
            content += chance.randbytes(missing) if chance.random() < 0.5 else bytes(missing)
        return bytes(content)


def _in_order(length: int, chance: Random) -> list[str]:
    """What was written first is there, as if the cut had been earlier."""
    kept = chance.randint(0, length)
    return (["kept"] * kept + ["torn"] + ["dropped"] * length)[:length]


def _at_random(pending: list[Event], chance: Random) -> list[str]:
    kept = chance.choice(KEPT)
    return ["kept" if chance.random() < kept else chance.choice(("torn", "dropped")) for _ in pending]


def _do(content: bytearray, event: Event) -> None:
    if event.what == "truncate":
        del content[event.at :]
    else:
        _put(content, event.at, event.data)


def _put(content: bytearray, at: int, data: bytes) -> None:
    content.extend(bytes(max(0, at - len(content))))
    content[at : at + len(data)] = data


def _tear(content: bytearray, event: Event, chance: Random) -> None:
    """Write each sector of it, or not, or something else."""
    end = event.at + len(event.data)
    first = event.at
    while first < end:
        last = min(end, first - first % SECTOR + SECTOR)
        match chance.choice(SECTORS):
            case "new":
                _put(content, first, event.data[first - event.at : last - event.at])
            case "zeroes":
                _put(content, first, bytes(last - first))
            case "garbage":
                _put(content, first, chance.randbytes(last - first))
        first = last


class Platter:
    """The files of one folder, while they are worked on."""

    def __init__(self, image: Image) -> None:
        # for each name: what it durably stands for, and then what it has stood for since
        self._names: dict[str, list[File | None]] = {name: [File(data)] for name, data in image.items()}

    def do(self, event: Event) -> None:
        """Go on by one event."""
        names = self._names
        match event.what:
            case "create":
                names.setdefault(event.file, [None]).append(File())
            case "delete":
                names[event.file].append(None)
            case "rename":
                names.setdefault(event.data.decode(), [None]).append(self._open(event.file))
                names[event.file].append(None)
            case "sync folder":
                self._names = {name: files[-1:] for name, files in names.items()}
            case "sync":
                self._open(event.file).sync()
            case _:
                self._open(event.file).pending.append(event)

    def _open(self, name: str) -> File:
        file = self._names[name][-1]
        assert file is not None, name
        return file

    @property
    def settled(self) -> bool:
        """Whether all is durable. That a WAL is deleted need not be: one that comes back holds nothing that is news."""
        return all(
            (files[-1] is None and (len(files) == 1 or name.endswith("-wal")))
            or (files[-1] is not None and len(files) == 1 and not files[-1].pending)
            for name, files in self._names.items()
        )

    def whole(self) -> Image:
        """All that was done, as a process that is killed leaves it."""
        return _image({name: files[-1] for name, files in self._names.items()}, File.now)

    def synced(self) -> Image:
        """Only what is durable."""
        return _image({name: files[0] for name, files in self._names.items()}, lambda file: file.durable)

    def after_cut(self, chance: Random) -> Image:
        """What is durable, and some of the rest."""
        chosen = {name: chance.choice(files) for name, files in sorted(self._names.items())}
        return _image(chosen, lambda file: file.after_cut(chance))


def _image(files: dict[str, File | None], content: Callable[[File], bytes]) -> Image:
    return {name: content(file) for name, file in files.items() if file is not None}
