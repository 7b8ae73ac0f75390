"""Draw job.svg, how a job travels: `python docs/design/job.py`. Needs nothing but the standard library."""
# ruff: noqa: INP001 - a program, not a module

from html import escape
from pathlib import Path

WIDTH, HEIGHT = 1050, 730
CALLER, FILE, WORKER = 20, 395, 710  # where the columns begin
BOX, MIDDLE, PILL = 320, 260, 190  # how wide they are, and a state
INK, GREY, PAPER = "#1f2933", "#52606d", "#ffffff"

PLACE = FILE + (MIDDLE - PILL) // 2  # the left end of a state
CENTRE, RIGHT = PLACE + PILL // 2, PLACE + PILL
EDGE, INTO = CALLER + BOX - 12, WORKER + 12  # the sides of the callers' and the workers' boxes that face the file

STEPS = [  # x, y, name, files, what happens
    (CALLER, 72, "1  enqueue", "task.py  serialization/", "arguments, checked, become bytes: a NewJob"),
    (CALLER, 160, "2  commit", "sqlite/parts/jobs.py  sqlite/commit/",
     "a lone caller commits by itself, others\nby the writer thread, many in one commit"),
    (CALLER, 264, "3  notify", "ipc/notifier.py",
     "a datagram to each worker's socket: an idle\nthread hears it, or the worker's loop"),
    (WORKER, 264, "4  claim", "worker/idle.py  sqlite/jobs/claim.py",
     "as many jobs as can start soon, by a thread\nthat was idle, or by the worker's loop"),
    (WORKER, 366, "5  run", "worker/executor/",
     "a thread or the event loop calls the\nfunction; what it does becomes an Outcome"),
    (WORKER, 468, "6  settle", "worker/claiming.py  sqlite/parts/runs.py",
     "the ends of these runs and the next claim:\none transaction"),
    (CALLER, 480, "7  result", "ipc/result_waiters.py  job.py",
     "the waiting caller is woken, reads the row,\nand decodes the result"),
    (WORKER, 574, "Maintenance", "worker/maintenance.py", "reaps dead workers, fires schedules, prunes"),
]  # fmt: skip

STATES = [  # y, name, more
    (176, "queued", "or scheduled, until it is due"),
    (340, "running", "attempt + 1, worker"),
    (484, "succeeded", "failed, cancelled; the result"),
]

ARROWS = [  # a path; whether it is a hint
    (f"M {EDGE} 199 H {PLACE - 2}", False),
    (f"M {EDGE} 303 H {INTO - 2}", True),
    (f"M {INTO} 328 H {RIGHT + 40} V 363 H {RIGHT + 2}", False),
    (f"M {CENTRE + 55} 222 V 338", False),
    (f"M {CENTRE - 55} 340 V 224", False),
    (f"M {CENTRE} 386 V 482", False),
    (f"M {INTO} 507 H {RIGHT + 2}", False),
    (f"M {INTO} 540 H {EDGE + 2}", True),
    (f"M {PLACE} 507 H {EDGE + 2}", False),
]

NOTES = [
    "Inside one process 2, 3 and 4 are one step: a job that is enqueued while a worker is idle is claimed for it",
    "in the transaction that stores it (core/dispatch.py). Dashed: hints, which may be lost; workers and waiting",
    "callers look at the file by themselves about once a second.",
]

HEAD = '<path d="M0,0 L7,3.5 L0,7 z"/>'
MARKER = f'<marker id="head" markerWidth="7" markerHeight="7" refX="6" refY="3.5" orient="auto">{HEAD}</marker>'
STYLE = f"""
text {{ font: 13px "DejaVu Sans", Verdana, sans-serif; fill: {INK} }}
.title {{ font-size: 16px; font-weight: bold; text-anchor: middle }}
.name {{ font-size: 14px; font-weight: bold }}
.files {{ font: 12px "DejaVu Sans Mono", monospace; fill: {GREY} }}
.what {{ font-size: 12px }}
.small {{ font-size: 11px; fill: {GREY} }}
.middle {{ text-anchor: middle }}
"""


def words(x: int, y: int, text: str, kind: str = "") -> str:
    """Text of a class of `STYLE`."""
    return f'<text x="{x}" y="{y}" class="{kind}">{escape(text)}</text>'


def column(x: int, width: int, fill: str, title: str, more: str) -> list[str]:
    """One place: a process, or the file."""
    frame = f'<rect x="{x}" y="12" width="{width}" height="{HEIGHT - 86}" rx="10" fill="{fill}"/>'
    return [frame, words(x + width // 2, 36, title, "title"), words(x + width // 2, 55, more, "small middle")]


def box(x: int, y: int, width: int, height: int, radius: int) -> str:
    """The frame of a step or a state."""
    return f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="{radius}" fill="{PAPER}" stroke="{INK}"/>'


def step(x: int, y: int, name: str, files: str, what: str) -> list[str]:
    """One step, and the files in which it is."""
    lines = [words(x + 22, y + 54 + 16 * row, line, "what") for row, line in enumerate(what.split("\n"))]
    frame = box(x + 12, y, BOX - 24, 46 + 16 * len(lines), 6)
    return [frame, words(x + 22, y + 20, name, "name"), words(x + 22, y + 37, files, "files"), *lines]


def state(y: int, name: str, more: str) -> list[str]:
    """One state of the job's row."""
    frame = box(PLACE, y, PILL, 46, 23)
    return [frame, words(CENTRE, y + 20, name, "name middle"), words(CENTRE, y + 36, more, "small middle")]


def arrow(path: str, *, hint: bool) -> str:
    """One arrow."""
    dash = ' stroke-dasharray="6 4"' if hint else ""
    return f'<path d="{path}" fill="none" stroke="{INK}" stroke-width="1.6"{dash} marker-end="url(#head)"/>'


def picture() -> str:
    """The whole picture, as SVG."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}">',
        "<title>How a job travels, from enqueue() to result()</title>",
        f"<style>{STYLE}</style>",
        f"<defs>{MARKER}</defs>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="{PAPER}"/>',
        *column(CALLER, BOX, "#e3f0fb", "The caller's process", "a web server, a script, the command line"),
        *column(FILE, MIDDLE, "#fdf3d8", "The file", "one row of litequeue_jobs"),
        *column(WORKER, BOX, "#e4f4e8", "The worker's process", "its loop, its threads, its event loop"),
    ]
    for what in STEPS:
        parts += step(*what)
    for which in STATES:
        parts += state(*which)
    parts += [arrow(path, hint=hint) for path, hint in ARROWS]
    parts += [words(CENTRE - 46, 322, "retry, snooze,", "small"), words(CENTRE - 46, 335, "release", "small")]
    parts += [words(PLACE + 20, 556, "a datagram: these jobs have ended", "small")]
    parts += [words(20, HEIGHT - 48 + 18 * row, note) for row, note in enumerate(NOTES)]
    return "\n".join([*parts, "</svg>", ""])


if __name__ == "__main__":
    Path(__file__).with_suffix(".svg").write_text(picture(), encoding="utf-8")
