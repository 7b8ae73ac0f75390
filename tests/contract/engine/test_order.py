"""Order: by priority, then first come, first served; and only the queues that a worker serves."""

from contract.engine import app


def ran(rig, **options):
    rig.work(threads=1, **options)
    return app.notes


def test_what_came_first_runs_first(rig):
    rig.tasks.note.enqueue_many([(str(number),) for number in range(20)])
    assert ran(rig) == [str(number) for number in range(20)]


def test_a_higher_priority_runs_first(rig):
    for priority in (0, -100, 5, 100, 0):
        rig.tasks.note.using(priority=priority).enqueue(f"{priority}")
    assert ran(rig) == ["100", "5", "0", "0", "-100"]


def test_a_worker_runs_the_queues_that_it_serves(rig):
    for queue in ("mail", "default", "reports"):
        rig.tasks.note.using(queue=queue).enqueue(queue)
    assert sorted(ran(rig, queues=["mail", "reports"])) == ["mail", "reports"]
