"""Thumbnails by a decoder that hangs on one picture and crashes on another: child processes, which alone can be killed.

Run: `python examples/thumbnails.py`. The pictures and the decoder are made up. It reads a header by a regular
expression that comes to no end on some headers, and believes the size that a header gives.
"""

import ctypes
import logging
import re
import tempfile
from pathlib import Path

from litequeue import JobFailed, Queue

logging.getLogger("litequeue").setLevel("CRITICAL")  # a worker logs deaths and failures; those below are on purpose
queue = Queue()  # main() says where the file is: a child process, which imports this module, needs none

HEADER = re.compile(rb"P5(\s+|#.*\n)*(\d+)\s+(\d+)\s+255\s")  # of a PGM file; then a byte for each pixel
STEP = 8  # of so many rows and columns the thumbnail has one


def decode(picture: bytes) -> tuple[int, int, bytes]:
    header = HEADER.match(picture)  # C code, during which no other thread of its process can run
    if header is None:
        raise ValueError("this is no PGM file")
    width, height = int(header[2]), int(header[3])
    address = ctypes.cast(ctypes.c_char_p(picture), ctypes.c_void_p).value or 0
    return width, height, ctypes.string_at(address + header.end(), width * height)  # beyond the end, if the header lies


@queue.task(process=True, timeout="3s")
def thumbnail(path: str) -> str:
    source = Path(path)
    print(f"decoding {source.name}")  # what a process printed last is kept if it dies
    width, height, pixels = decode(source.read_bytes())
    rows = [pixels[row * width : (row + 1) * width : STEP] for row in range(0, height, STEP)]
    source.with_suffix(".small.pgm").write_bytes(b"P5 %d %d 255\n" % (len(rows[0]), len(rows)) + b"".join(rows))
    return f"{width} x {height} became {len(rows[0])} x {len(rows)}"


def draw(folder: Path) -> list[Path]:
    """Draw a picture on which the decoder hangs, one on which it crashes, and six good ones."""
    pictures = {"hangs.pgm": b"P5" + b" " * 60 + b"?", "crashes.pgm": b"P5 30000 30000 255\n"}
    pictures |= {f"good-{shade}.pgm": b"P5 64 48 255\n" + bytes([40 * shade]) * 64 * 48 for shade in range(1, 7)}
    for name, picture in pictures.items():
        (folder / name).write_bytes(picture)
    return [folder / name for name in pictures]


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, queue:
        queue.bind(Path(folder) / "app.db")  # in your program: queue = Queue("app.db"), above
        jobs = {path.name: thumbnail.enqueue(str(path)) for path in draw(Path(folder))}
        with queue.worker(children=2):
            for name, job in jobs.items():
                try:
                    print(f"{name}: {job.result(timeout=60)}")
                except JobFailed as failure:
                    print(f"{name}: failed, {failure.error_type}")

        for dead in queue.jobs(status="failed"):  # the dead letters: how each process ended, and what it printed
            error = dead.errors[-1]
            printed = re.findall(r"decoding \S+", error.traceback)
            print(f"dead letter: run {error.attempt}, printed {printed}: {error.message}")


if __name__ == "__main__":  # a child process runs this file again, to find the task, and must not start it all anew
    main()
