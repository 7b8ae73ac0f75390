"""Schedules: some declared in code, others added, paused and triggered while the program runs.

Any number of workers may run; each tick is enqueued once. Run: `python examples/schedules.py`.
"""

import tempfile
import threading
from pathlib import Path

from litequeue import Queue, at, cron, every

queue = Queue(Path(tempfile.mkdtemp()) / "app.db")  # in your program: Queue("app.db")
ticked = threading.Event()


@queue.task(schedule=every("0.2s"))
def look_for_mail() -> None:
    ticked.set()


@queue.task(schedule=cron("0 6 * * mon-fri", tz="Europe/Paris"))
def morning_report() -> str:
    return "all is well"


@queue.task
def remind(who: str) -> str:
    return f"{who}, the meeting begins"


def main() -> None:
    with queue.worker():  # a worker that starts adds the schedules that are declared in code
        queue.schedules.add("remind-ada", remind.s("Ada"), every("1h", jitter="1m"))
        queue.schedules.add("new-century", remind.s("Everyone"), at("2100-01-01T00:00:00+00:00"))
        for schedule in queue.schedules:
            print(f"{schedule.name:15} next at {schedule.next_at:%Y-%m-%d %H:%M:%S %Z}")

        queue.schedules.pause("remind-ada")
        print("paused:", [schedule.name for schedule in queue.schedules if schedule.paused])
        queue.schedules.resume("remind-ada")
        queue.schedules.remove("new-century")

        print("now:", queue.schedules.trigger_now("morning_report").result(timeout=10))
        print("ticked by itself:", ticked.wait(timeout=10))


if __name__ == "__main__":
    main()
