"""Runs in a frozen program before its own code: has a process that a worker started be a child, and nothing else.

PyInstaller puts this file into the program, where it runs in `__main__`, so it leaves no names there.

HAZARD: hooks of other packages may follow this one (of Django, multiprocessing, Qt), which jobs need as the program
does, and PyInstaller lets nobody choose the order. So a child begins where the program's own code would: at the first
module that is run in `__main__` and is no hook.
"""


def _litequeue() -> None:
    import sys
    from pathlib import PurePath
    from types import FrameType

    sys.litequeue_hook = True  # type: ignore[attr-defined]  # read by litequeue.children.command
    if sys.argv[1:2] != ["--litequeue-child"]:
        return
    number, main = int(sys.argv[2]), vars(sys.modules["__main__"])

    def at_call(frame: FrameType, event: str, _: object) -> None:
        code = frame.f_code
        if event != "call" or code.co_name != "<module>" or frame.f_globals is not main:
            return
        if PurePath(code.co_filename).name.startswith("pyi_rth_"):
            return
        sys.setprofile(None)
        from litequeue.worker.child.main import main as be_child

        be_child(number)
        sys.exit()  # raised where the program would begin

    sys.setprofile(at_call)


_litequeue()
del _litequeue
