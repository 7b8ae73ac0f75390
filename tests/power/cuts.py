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
import traceback
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest import mock

import apsw

from faults.points import SHARED_MEMORY, in_haste
from faults.scenarios import Book, Scenario
from litequeue.ipc.process_lock import directory_of
from litequeue.sqlite.file import free_pages, opening
from power.disk import Event, remembering
from power.platter import Image, Platter

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Generator, Iterator

    from litequeue.sqlite.file.opening import Durability

PAGE = 4096
BOOT_ID = "/proc/sys/kernel/random/boot_id"  # by which the system tells one boot from another
WHOLE, SYNCED = 0, 1  # images that are made of every cut; those of higher numbers are drawn by lot


class Setting(NamedTuple):
    """How a scenario is done. `checkpoint`: after a commit that leaves so many pages in the WAL, or more."""

    durability: Durability
    checkpoint: int

    def __str__(self) -> str:
        return f"{self.durability}, checkpoints at {self.checkpoint} pages"


SETTINGS = tuple(Setting(durability, pages) for durability in ("full", "normal") for pages in (1000, 8, 1))


class Moment(NamedTuple):
    """What was so just before an event."""

    book: Book
    locks: Image  # files of living workers


@dataclass
class Recording:
    """One run of a scenario."""

    scenario: Scenario
    setting: Setting
    before: Image
    boot: int = 1
    events: list[Event] = field(default_factory=list)
    moments: list[Moment] = field(default_factory=list)  # one more than events


class Cut(NamedTuple):
    """A cut, before the event of that number, and one of the disks it may leave."""

    recording: Recording
    number: int
    image: int
    seed: int

    def __str__(self) -> str:
        made = self.recording
        twice = ", after a cut before" if made.boot > 1 else ""
        return f"{made.scenario.name} ({made.setting}{twice}), cut {self.number}, image {self.image}, seed {self.seed}"


class Broken(AssertionError):
    """A disk on which something that was promised is not so."""

    def __init__(self, cut: Cut, error: BaseException) -> None:
        where = traceback.extract_tb(error.__traceback__)[-1]
        super().__init__(f"{cut}: {error!r} at {where.line}")
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
        with self._emptied(), in_boot(1):
            scenario.prepare(self._path)
            before = {path.name: path.read_bytes() for path in self._folder.iterdir() if path.is_file()}
        made, book = Recording(scenario, setting, before), Book()
        with self._laid(before, {}):
            self._do(made, book, lambda: scenario.act(self._path, book))
        assert not book.refused, book.refused
        return made

    def record_again(self, cut: Cut) -> Recording:
        """Begin with the disk that a cut left, and remember how it is examined and worked on: for a second cut."""
        scenario, setting, scene = cut.recording.scenario, cut.recording.setting, self._scene(cut)
        disk, locks = draw(scene, cut)
        book = scene.book(self._state(disk))
        made = Recording(scenario, setting, disk, boot=cut.recording.boot + 1)
        try:
            with self._laid(disk, locks):
                self._do(made, book, lambda: scenario.examine(self._path, book))
        except BaseException as error:
            raise Broken(cut, error) from error
        return made

    def _do(self, made: Recording, book: Book, act: Callable[[], None]) -> None:
        def remember(event: Event) -> None:
            made.moments.append(self._moment(book))
            made.events.append(event)

        durability = mock.patch.object(Scenario, "durability", made.setting.durability)
        with in_boot(made.boot), durability, small_steps(made.setting.checkpoint), remembering(self._folder, remember):
            act()
        made.moments.append(self._moment(book))

    def _moment(self, book: Book) -> Moment:
        locks = {}
        for path in directory_of(self._path).glob("*.lock"):
            with suppress(FileNotFoundError):  # its worker is just ending
                locks[path.name] = path.read_bytes()
        return Moment(book.so_far(), locks)

    def cut_at_each(
        self, recording: Recording, seed: int, *, images: int, step: int = 1, only: Container[int] | None = None
    ) -> Tally:
        """Examine `images` disks for each `step`-th cut (of `only` those), or as many as differ; raises `Broken`."""
        cuts, examined = 0, set()
        for scene in self._scenes(recording):
            if scene.number % step or not (only is None or scene.number in only):
                continue
            cuts += 1
            for number in range(images):
                cut = Cut(recording, scene.number, number, seed)
                disk, locks = draw(scene, cut)
                # what must be true of a disk depends on what was told, and synced, before the cut
                told = repr(scene.moment.book), scene.floor
                key = hash((frozenset(disk.items()), frozenset(locks.items()), told))
                if key not in examined:
                    examined.add(key)
                    self._judge(scene, cut, disk, locks)
        return Tally(cuts, len(examined))

    def replay(self, cut: Cut) -> None:
        """Examine that one disk; raises `Broken`."""
        scene = self._scene(cut)
        self._judge(scene, cut, *draw(scene, cut))

    def _scene(self, cut: Cut) -> Scene:
        return next(scene for scene in self._scenes(cut.recording) if scene.number == cut.number)

    def _scenes(self, recording: Recording) -> Iterator[Scene]:
        platter, floor, states = Platter(recording.before), 0, []
        for number in range(len(recording.moments)):
            if number:
                platter.do(recording.events[number - 1])
            states.append(self._state(platter.whole()))
            if platter.settled:
                floor = number
            yield Scene(recording, number, platter, floor, states)

    def _judge(self, scene: Scene, cut: Cut, disk: Image, locks: Image) -> None:
        recording = cut.recording
        try:
            state = self._state(disk)
            book = scene.book(state)
            with self._laid(disk, locks), mock.patch.object(Scenario, "durability", recording.setting.durability):
                recording.scenario.examine(self._path, book)
                assert self._look().deaths == state.deaths, "a job is blamed for the power cut"
        except BaseException as error:
            raise Broken(cut, error) from error

    def _state(self, disk: Image) -> State:
        """What SQLite finds in the file, which is laid anew for whoever comes next."""
        with self._laid(disk, {}):
            return self._look()

    def _look(self) -> State:
        db = apsw.Connection(str(self._path))
        try:
            return State.of(db)
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


class State(NamedTuple):
    """What is in a file."""

    content: int
    deaths: int  # that jobs are blamed for

    @classmethod
    def of(cls, db: apsw.Connection) -> State:
        schema = db.execute("SELECT name, type, sql FROM sqlite_schema").fetchall()
        tables = [name for name, kind, _ in schema if kind == "table"]
        content = [tuple(db.execute(f'SELECT * FROM "{name}"').fetchall()) for name in tables]
        blamed = "SELECT coalesce(sum(deaths), 0) FROM litequeue_jobs"
        deaths = db.execute(blamed).get if "litequeue_jobs" in tables else 0
        return cls(hash((tuple(schema), *content)), int(deaths))


@dataclass
class Scene:
    """The disk at a cut. `states`: those of the file at this and all earlier cuts, had nothing been lost at them."""

    recording: Recording
    number: int
    platter: Platter
    floor: int  # the last cut at which all was synced
    states: list[State]

    @property
    def moment(self) -> Moment:
        return self.recording.moments[self.number]

    def book(self, state: State) -> Book:
        """What must be true of a file that is found in this state."""
        assert state in self.states, "the file is in a state in which it never was"
        allowed = self.states[self.floor :]
        assert state in allowed, "what had been synced is lost"
        if self.recording.setting.durability == "full":
            return self.moment.book
        return self.recording.moments[self.floor + allowed.index(state)].book


def draw(scene: Scene, cut: Cut) -> tuple[Image, Image]:
    """Return the image of that number, and the lock files there."""
    locks = scene.moment.locks
    if cut.image == WHOLE:
        return scene.platter.whole(), locks
    if cut.image == SYNCED:
        return scene.platter.synced(), {}
    recording = cut.recording
    chance = Random(
        f"{cut.seed} {recording.scenario.name} {recording.setting} {recording.boot} {cut.number} {cut.image}"
    )
    empty = {name: bytes(len(data)) for name, data in locks.items()}
    return scene.platter.after_cut(chance), chance.choice((locks, empty, {}))


def in_boot(number: int) -> AbstractContextManager[object]:
    """What is recorded happens in boots of their own: whoever looks after a cut lives in another."""

    def read_text(path: Path, *given: Any, **options: Any) -> str:
        return f"boot {number}" if str(path) == BOOT_ID else plain(path, *given, **options)

    plain = Path.read_text
    return mock.patch.object(Path, "read_text", read_text)


@contextmanager
def small_steps(pages: int) -> Generator[None, None, None]:
    """Checkpoint after a commit once there are so many pages; let what a small file never comes to happen soon."""

    def hook(db: apsw.Connection) -> None:
        db.wal_autocheckpoint(pages)

    apsw.connection_hooks.append(hook)
    try:
        pages_left = mock.patch.multiple(free_pages, KEPT=1, FEWEST=1)
        with mock.patch.object(opening, "JOURNAL_LIMIT", PAGE), pages_left:
            yield
    finally:
        apsw.connection_hooks.remove(hook)


@contextmanager
def harness() -> Generator[Harness, None, None]:
    """In shared memory, where there is any: the real disk has no part in this."""
    with ExitStack() as stack:
        stack.enter_context(in_haste())
        folder = stack.enter_context(tempfile.TemporaryDirectory(dir=SHARED_MEMORY if SHARED_MEMORY.is_dir() else None))
        yield Harness(Path(folder) / "disk")


def save(recording: Recording, path: Path) -> None:
    path.write_bytes(pickle.dumps(recording))


def load(path: Path) -> Recording:
    recording = pickle.loads(path.read_bytes())
    assert isinstance(recording, Recording)
    return recording
