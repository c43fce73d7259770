"""SIGTERM and Ctrl-C: work ends where nothing is lost, or at once if there is nothing to lose.

In a job of Slurm so does SIGUSR1, by which a job asks to be requeued (`sbatch --signal=USR1@120`).
"""

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupted(BaseException):
    """A signal has ended the work.

    signum: of the signal; a program then exits with 128 + signum.
    advice: for the user, how much is done and the command to go on; empty if nobody knows.
    """

    def __init__(self, signum: int, advice: str = "") -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum
        self.advice = advice


class Interruption:
    """The signals that ask this process to end.

    received: the number of the first one that was deferred; null for none.
    deferred: whether a signal is only noted, because work is at a place where it can't end well;
        whoever sets it looks at `received` soon. A second signal ends the work nevertheless.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self.deferred = False
        self._process = 0

    @contextmanager
    def heard(self) -> Iterator[None]:
        """A context in which these signals raise `Interrupted`, in the main thread.

        Lightning leaves SIGUSR1 to whoever listens before it.
        """
        before = {each: signal.getsignal(each) for each in _ending()}
        self.received, self.deferred = None, False
        if threading.current_thread() is threading.main_thread():
            self._process = os.getpid()
        self.listen_again()
        try:
            yield
        finally:
            if self._process == os.getpid():
                self._process = 0
                for each, handler in before.items():
                    signal.signal(each, handler)

    def listen_again(self) -> None:
        """Hear them after another package has put its own handlers in place; only if `heard`."""
        if self._process == os.getpid():
            for each in _ending():
                signal.signal(each, self._hear)

    def check(self) -> None:
        """Raises Interrupted if a signal was received."""
        if self.received is not None:
            raise Interrupted(self.received)

    def _hear(self, signum: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            return  # a process that reads images ends with the one that trains
        # a signal to the whole group ends what reads images; torch would raise in any line here
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        if not self.deferred or self.received is not None:
            raise Interrupted(signum)
        self.received = signum
        name = signal.Signals(signum).name
        print(f"\n{name}: stopping after this batch; once more to stop at once", file=sys.stderr)


interruption = Interruption()  # a process has one


def ignore_ctrl_c(worker: int = 0) -> None:
    """In a process that reads images: Ctrl-C is for the one that trains, which ends the others.

    Args:
        worker: its number, which torch gives.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def slurm_job() -> str | None:
    """The number of the job of Slurm that runs this process; an interactive shell is none."""
    interactive = os.environ.get("SLURM_JOB_NAME") in ("bash", "interactive")
    return None if interactive else os.environ.get("SLURM_JOB_ID")


def _ending() -> list[signal.Signals]:
    """The signals that ask for an end."""
    requeuing = [signal.SIGUSR1] if slurm_job() is not None else []
    return [signal.SIGINT, signal.SIGTERM, *requeuing]
