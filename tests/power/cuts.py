"""Cut the power after each thing that SQLite does to the disk: each scenario, both durabilities, several images a cut.

A scenario is done once, on a disk that remembers. Then for each cut images of the disk are made, and each is opened by
the real litequeue on the ordinary VFS, by what is after the cut another boot of the machine.

What must be found is one of the states in which a process killed at some earlier moment would have left the file:

- no older than the last moment at which all was synced, so only a tail is lost, and nothing is half done;
- with `durability="full"`, holding all that anybody was told before the cut; with "normal", all that anybody was told
  when the file first came into that state: what is there is in order;
- sound, and fit to go on with: `Scenario.examine`.
"""

from __future__ import annotations

import pickle
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, NamedTuple
from unittest import mock

import apsw

from faults import scenarios
from faults.points import SHARED_MEMORY, in_haste
from faults.scenarios import Book, Scenario
from litequeue import identity
from litequeue.liveness import directory_of
from power.disk import Event, remembering
from power.platter import Image, Platter

if TYPE_CHECKING:
    from collections.abc import Generator

    from litequeue.sqlite.opening import Durability

WHOLE, SYNCED = 0, 1  # images that are made of every cut; those of higher numbers are drawn by lot


class Setting(NamedTuple):
    """How a scenario is done. `checkpoint`: after a commit that leaves at least so many pages in the WAL."""

    durability: Durability
    checkpoint: int

    def __str__(self) -> str:
        return f"{self.durability}, checkpoints at {self.checkpoint} pages"


SETTINGS = tuple(Setting(durability, pages) for durability in ("full", "normal") for pages in (1000, 8))


class Moment(NamedTuple):
    """What was so just before an event."""

    book: Book
    locks: Image  # files of living workers


@dataclass
class Recording:
    """One run of a scenario."""

    scenario: str
    setting: Setting
    before: Image
    events: list[Event] = field(default_factory=list)
    moments: list[Moment] = field(default_factory=list)  # one more than events


class Cut(NamedTuple):
    """A cut, before the event of that number, and one of the disks it may leave."""

    recording: Recording
    number: int
    image: int
    seed: int

    def __str__(self) -> str:
        scenario, setting = self.recording.scenario, self.recording.setting
        return f"{scenario} ({setting}), cut {self.number}, image {self.image}, seed {self.seed}"


class Broken(AssertionError):
    """A disk on which something that was promised is not so."""

    def __init__(self, cut: Cut, error: BaseException) -> None:
        super().__init__(f"{cut}: {error!r}")
        self.cut = cut


class Tally(NamedTuple):
    """How many cuts were made, and how many different disks examined."""

    cuts: int = 0
    images: int = 0


class Harness:
    """Records scenarios and examines what is left; one at a time in a process, since the VFS is the whole process's."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / "app.db"

    def record(self, scenario: Scenario, setting: Setting) -> Recording:
        """Do it, on a disk that remembers."""
        with self._emptied(), mock.patch.object(scenarios, "DURABILITY", setting.durability):
            scenario.prepare(self._path)
            shutil.rmtree(directory_of(self._path), ignore_errors=True)
            made = Recording(scenario.name, setting, {path.name: path.read_bytes() for path in self._folder.iterdir()})
            book = Book()

            def remember(event: Event) -> None:
                made.moments.append(Moment(book.so_far(), self._locks()))
                made.events.append(event)

            # whoever looks after the cut lives in another boot
            with mock.patch.object(identity, "_boot", lambda: "before"), checkpoints_at(setting.checkpoint):
                with remembering(self._folder, remember):
                    scenario.act(self._path, book)
            made.moments.append(Moment(book.so_far(), {}))
            assert not book.refused, book.refused
            return made

    def _locks(self) -> Image:
        return {path.name: path.read_bytes() for path in directory_of(self._path).glob("*.lock")}

    def cut_at_each(self, recording: Recording, seed: int, *, images: int, step: int = 1) -> Tally:
        """Examine `images` disks for each `step`-th cut, or as many as are different; raises `Broken`."""
        cuts, examined = 0, set()
        for scene in self._scenes(recording):
            if scene.number % step:
                continue
            cuts += 1
            for number in range(images):
                cut = Cut(recording, scene.number, number, seed)
                disk, locks = draw(scene, cut)
                key = hash((frozenset(disk.items()), frozenset(locks.items()), repr(scene.moment.book)))
                if key not in examined:
                    examined.add(key)
                    self._judge(scene, cut, disk, locks)
        return Tally(cuts, len(examined))

    def replay(self, cut: Cut) -> None:
        """Examine that one disk; raises `Broken`."""
        scene = next(scene for scene in self._scenes(cut.recording) if scene.number == cut.number)
        self._judge(scene, cut, *draw(scene, cut))

    def _scenes(self, recording: Recording) -> Iterator[Scene]:
        platter, floor, states = Platter(recording.before), 0, []
        for number, moment in enumerate(recording.moments):
            if number:
                platter.do(recording.events[number - 1])
            states.append(self._state(platter.whole()))
            if platter.settled:
                floor = number
            yield Scene(number, moment, platter, floor, states)

    def _judge(self, scene: Scene, cut: Cut, disk: Image, locks: Image) -> None:
        durability = cut.recording.setting.durability
        try:
            first = scene.first_in(self._state(disk))
            book = (scene.moment if durability == "full" else cut.recording.moments[first]).book
            with self._laid(disk, locks), mock.patch.object(scenarios, "DURABILITY", durability):
                scenario_of(cut.recording).examine(self._path, book)
        except BaseException as error:
            raise Broken(cut, error) from error

    def _state(self, disk: Image) -> int:
        """What SQLite finds in the file, as a number; the file itself is laid anew for whoever comes next."""
        with self._laid(disk, {}):
            db = apsw.Connection(str(self._path))
            try:
                return hash(_content(db))
            finally:
                db.close()

    @contextmanager
    def _laid(self, disk: Image, locks: Image) -> Generator[None, None, None]:
        with self._emptied():
            for name, data in disk.items():
                (self._folder / name).write_bytes(data)
            if locks:
                directory_of(self._path).mkdir()
            for name, data in locks.items():
                (directory_of(self._path) / name).write_bytes(data)
            yield

    @contextmanager
    def _emptied(self) -> Generator[None, None, None]:
        self._folder.mkdir()
        try:
            yield
        finally:
            shutil.rmtree(self._folder)


@dataclass
class Scene:
    """The disk at a cut. `states`: those of the file at this and all earlier cuts, had nothing been lost at them."""

    number: int
    moment: Moment
    platter: Platter
    floor: int  # the last cut at which all was synced
    states: list[int]

    def first_in(self, state: int) -> int:
        """The first cut at which the file was in this state."""
        assert state in self.states, "the file is in a state in which it never was"
        allowed = self.states[self.floor :]
        assert state in allowed, "what had been synced is lost"
        return self.floor + allowed.index(state)


def draw(scene: Scene, cut: Cut) -> tuple[Image, Image]:
    """Return the image of that number, and the lock files there."""
    locks = scene.moment.locks
    if cut.image == WHOLE:
        return scene.platter.whole(), locks
    if cut.image == SYNCED:
        return scene.platter.synced(), {}
    chance = Random(f"{cut.seed} {cut.recording.scenario} {cut.recording.setting} {cut.number} {cut.image}")
    empty = {name: bytes(len(data)) for name, data in locks.items()}
    return scene.platter.after_cut(chance), chance.choice((locks, empty, {}))


def scenario_of(recording: Recording) -> Scenario:
    return next(one for one in Scenario.all if one.name == recording.scenario)


def _content(db: apsw.Connection) -> tuple[object, ...]:
    schema = db.execute("SELECT name, type, sql FROM sqlite_schema").fetchall()
    tables = [name for name, kind, _ in schema if kind == "table"]
    return tuple(schema), *(tuple(db.execute(f'SELECT * FROM "{name}"').fetchall()) for name in tables)


@contextmanager
def checkpoints_at(pages: int) -> Generator[None, None, None]:
    """Let every connection that is opened checkpoint after a commit, once there are so many pages."""

    def hook(db: apsw.Connection) -> None:
        db.wal_autocheckpoint(pages)

    apsw.connection_hooks.append(hook)
    try:
        yield
    finally:
        apsw.connection_hooks.remove(hook)


@contextmanager
def harness() -> Generator[Harness, None, None]:
    """In shared memory, where there is any: the real disk has no part in this."""
    with ExitStack() as stack:
        stack.enter_context(in_haste())
        folder = stack.enter_context(
            tempfile.TemporaryDirectory(dir=SHARED_MEMORY if SHARED_MEMORY.is_dir() else None)
        )
        yield Harness(Path(folder) / "disk")


def save(recording: Recording, path: Path) -> None:
    path.write_bytes(pickle.dumps(recording))


def load(path: Path) -> Recording:
    recording = pickle.loads(path.read_bytes())
    assert isinstance(recording, Recording)
    return recording
