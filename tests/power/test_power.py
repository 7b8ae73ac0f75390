"""What power cuts do to a queue: some of the cuts that `make torture` makes all of."""

import sys
from unittest import mock

import pytest

from faults.scenarios import Enqueue, Opening, Scenario, Transaction
from litequeue.sqlite.file import opening

pytestmark = [pytest.mark.slow, pytest.mark.skipif(sys.platform != "linux", reason="SQLite's unix VFS, and /proc")]

SEED, IMAGES = 1, 8
JOURNAL_SYNC = ("sync", "app.db-journal")


@pytest.fixture
def made():
    from power.cuts import harness  # which needs them

    with harness() as made:
        yield made


@pytest.mark.parametrize("durability", ["full", "normal"])
@pytest.mark.parametrize("scenario", Scenario.all, ids=lambda scenario: scenario.name)
def test_a_power_cut_loses_nothing_that_was_promised(made, scenario, durability):
    from power.cuts import Setting

    recording = made.record(scenario, Setting(durability, 8))
    tally = made.cut_at_each(recording, SEED, images=4, step=max(1, len(recording.moments) // 6))
    assert tally.cuts >= 4
    assert tally.images >= 5


def test_a_file_that_is_just_being_made_is_damaged_by_no_cut(made):
    """Before it is in WAL mode `synchronous = normal` would let a journal be torn, and undo what it never saw."""
    from power.cuts import Setting

    recording = made.record(Opening(), Setting("normal", 1000))
    syncs = [number for number, event in enumerate(recording.events) if (event.what, event.file) == JOURNAL_SYNC]
    assert len(syncs) >= 2
    assert made.cut_at_each(recording, SEED, images=40, only=syncs).cuts == len(syncs)


def test_what_the_harness_finds_is_found_again_in_its_recording(made, tmp_path):
    from power.cuts import Broken, Setting, load, save

    with unsynced("off"):
        recording = made.record(Enqueue(), Setting("full", 1000))
    with pytest.raises(Broken) as broken:
        made.cut_at_each(recording, SEED, images=IMAGES)
    cut = broken.value.cut
    save(recording, tmp_path / "recording")
    with pytest.raises(Broken) as again:
        made.replay(cut._replace(recording=load(tmp_path / "recording")))
    assert str(again.value) == str(broken.value)


# ---- what it must see


def unsynced(synchronous):
    """A store that breaks its word: its connections sync less than it says."""

    def settings(_durability):
        return (*honest("full")[:-1], f"synchronous = {synchronous}")

    honest = opening._settings
    return mock.patch.object(opening, "_settings", settings)


@pytest.mark.parametrize("synchronous", ["off", "normal"])
def test_the_harness_sees_an_enqueue_that_is_not_synced(made, synchronous):
    from power.cuts import Broken, Setting

    with unsynced(synchronous):
        recording = made.record(Enqueue(), Setting("full", 1000))
    with pytest.raises(Broken, match="JobNotFound"):
        made.cut_at_each(recording, SEED, images=IMAGES)


@pytest.mark.parametrize(
    ("scenario", "seen"), [(Transaction, "never was"), (Enqueue, r"integrity\(\) == \[\]")]
)  # tables that were not written together, and a table and its index
def test_the_harness_sees_a_checkpoint_that_is_not_synced(made, scenario, seen):
    from power.cuts import Broken, Setting

    with unsynced("off"):
        recording = made.record(scenario(), Setting("normal", 1))
    with pytest.raises(Broken, match=seen):
        made.cut_at_each(recording, SEED, images=IMAGES)


def test_the_harness_sees_what_is_half_done(made):
    from power.cuts import Broken, Setting

    class Apart(Transaction):
        def use(self, queue, book):
            with queue.transaction() as db:
                db.execute("INSERT INTO rows VALUES (1)")
            queue.tasks["plain"].enqueue(1)

    apart = Scenario.all.pop()
    with pytest.raises(Broken, match="assert rows == sorted"):
        made.cut_at_each(made.record(apart, Setting("full", 1000)), SEED, images=1)
