"""Processes that train together end together: if one dies, the others don't wait for it."""

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from multiprocessing import active_children
from subprocess import Popen, TimeoutExpired
from time import sleep

from lookalike.compatibility import processes_handed_over

FIRST = "LOOKALIKE_FIRST_PROCESS"  # the id of the process that started the others
LOOKS_EVERY = 0.2  # seconds
# an error may only follow from another process's end: time to see that, seconds
PATIENCE_OF_FIRST, PATIENCE_OF_OTHERS = 1.0, 5.0
FAREWELL = 30.0  # the others have no work after the first one, seconds

Tell = Callable[[str], object]


@contextmanager
def ending_together(tell: Tell) -> Iterator[None]:
    """A context in which the death of a process that trains with this one ends this one, too.

    The first process of a machine watches those that Lightning starts, and they watch the first.
    What follows from a death, such as errors of those that waited for an answer, isn't shown. An
    error of this process ends the others.

    Args:
        tell: prints what happened, and what the user can do; one process calls it.
    """
    number = int(os.environ.get("LOCAL_RANK", "0"))
    if number and FIRST in os.environ:
        with _following(int(os.environ[FIRST]), number, tell):
            yield
    else:
        with _leading(tell):
            yield


@contextmanager
def _following(first: int, number: int, tell: Tell) -> Iterator[None]:
    done = threading.Event()

    def look() -> None:
        while not done.wait(LOOKS_EVERY):
            if os.getppid() != first:
                if number == 1:
                    tell(f"rank 0 (process {first}) died, and the others were stopped.")
                _end(1)

    threading.Thread(target=look, daemon=True).start()
    try:
        yield
    except Exception:  # of any kind: it may only follow from the end of the first process
        sleep(PATIENCE_OF_OTHERS)
        raise
    finally:
        done.set()


@contextmanager
def _leading(tell: Tell) -> Iterator[None]:
    others: list[Popen] = []
    done = threading.Event()

    def look() -> None:
        while not done.wait(LOOKS_EVERY):
            if lost := next((each for each in others if each.poll()), None):
                _kill(others)
                code = lost.returncode
                tell(f"rank {others.index(lost) + 1} of {len(others) + 1} {_fate(lost)}.")
                _end(max(code, 1))

    def watch(processes: Sequence[Popen]) -> None:
        others.extend(processes)
        threading.Thread(target=look, daemon=True).start()

    os.environ[FIRST] = str(os.getpid())
    try:
        with processes_handed_over(watch):
            yield
        _see_off(others)
    except Exception:  # of any kind: it may only follow from the end of another process
        if others:
            sleep(PATIENCE_OF_FIRST)
        raise
    finally:
        done.set()
        _kill(others)
        del os.environ[FIRST]


def _fate(lost: Popen) -> str:
    code = lost.returncode
    if code > 0:
        return f"(process {lost.pid}) failed with exit code {code}, and the others were stopped"
    why = " (out of memory?)" if -code == signal.SIGKILL else ""
    name = signal.Signals(-code).name
    return f"(process {lost.pid}) was killed by {name}{why}, and the others were stopped"


def _see_off(others: Sequence[Popen]) -> None:
    """Wait until the others have ended; the look-out tells of one that fails."""
    for each in others:
        with suppress(TimeoutExpired):
            each.wait(FAREWELL)


def _kill(others: Sequence[Popen]) -> None:
    for each in others:
        each.kill()


def _end(code: int) -> None:
    """End this process although its main thread may wait for ever; what reads images, first."""
    for each in active_children():
        each.kill()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
