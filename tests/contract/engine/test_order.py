"""Order: by priority, then first come, first served; the queues that a worker serves, in turn."""

from contract.engine import app


def ran(rig, **options):
    rig.work(threads=1, **options)
    return app.notes


def test_what_came_first_runs_first(rig):
    for number in range(20):
        rig.tasks.note.enqueue(str(number))
    assert ran(rig) == [str(number) for number in range(20)]


def test_a_higher_priority_runs_first(rig):
    for priority in (0, -100, 5, 100, 0):
        rig.tasks.note.using(priority=priority).enqueue(f"{priority}")
    assert ran(rig) == ["100", "5", "0", "0", "-100"]


def test_a_worker_runs_the_queues_that_it_serves(rig):
    for queue in ("mail", "default", "reports"):
        rig.tasks.note.using(queue=queue).enqueue(queue)
    assert sorted(ran(rig, queues=["mail", "reports"])) == ["mail", "reports"]


FLOOD = 1200  # an engine may hand out 1000 at a time, and then half of them from each queue


def test_a_flood_in_one_queue_holds_up_no_other(rig):
    for number in range(FLOOD):
        rig.tasks.note.enqueue(f"flood {number}")
    for queue in ("mail", "reports"):
        rig.tasks.note.using(queue=queue).enqueue(queue)
    order = ran(rig)
    assert len(order) == FLOOD + 2
    assert max(order.index("mail"), order.index("reports")) < FLOOD / 2


def test_the_highest_priority_in_one_queue_holds_up_no_other(rig):
    for number in range(FLOOD):
        rig.tasks.note.using(priority=100).enqueue(f"flood {number}")
    rig.tasks.note.using(queue="mail", priority=-100).enqueue("mail")
    assert ran(rig).index("mail") < FLOOD / 2
