"""Every file is written through here: whole or not at all, even if the process or the power fails.

A file is written beside its target, synced and renamed, so that a reader sees the old file or the
new one. A file that a killed process left unfinished is removed when its target is written again.
"""

import errno
import fcntl
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import escape
from itertools import count
from pathlib import Path
from typing import IO, Any, Literal

from lookalike.errors import InputError

MANY = 64  # files from which on the whole system is synced at once: one call each takes longer
OF_THE_USER = (
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM,
)  # fmt: skip


@contextmanager
def writing(file: str | Path, mode: Literal["w", "wb"] = "w") -> Iterator[IO[Any]]:
    """A stream that becomes `file` once the block ends without an error.

    Folders that are missing are made. Text is UTF-8, and its line ends are kept.

    >>> with writing("scores.csv") as stream:
    ...     _ = stream.write("recall_at_1")
    >>> Path("scores.csv").read_text()
    'recall_at_1'

    Args:
        file: replaced if it exists; of a link, what it leads to.
        mode: "w" for text, "wb" for bytes.

    Raises:
        InputError: the disk is full, or may not be written to.
    """
    file = Path(os.path.realpath(file))
    encoding, newline = ("utf-8", "") if mode == "w" else (None, None)
    partial = file.with_name(f".{file.name}.{secrets.token_hex(4)}.partial")
    with explained(file):
        file.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(file)
        try:
            with open(partial, mode.replace("w", "x"), -1, encoding, None, newline) as stream:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)  # held until the process ends
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(partial, file)
            _sync_folder(file.parent)
        finally:
            partial.unlink(missing_ok=True)


def write_text(file: str | Path, text: str) -> None:
    """Write a text file, whole or not at all; see `writing`."""
    with writing(file) as stream:
        stream.write(text)


@contextmanager
def appending(file: Path, size: int) -> Iterator[IO[bytes]]:
    """A stream at the end of a file that grows; synced once the block ends without an error.

    Readers know how much of it counts from another file, which is written afterwards. What a killed
    process left behind that is cut off.

    Args:
        file: made if it is missing.
        size: bytes that count until now; after an error it has as many again.

    Raises:
        InputError: the disk is full, or may not be written to.
    """
    with explained(file), open(file, "r+b" if size else "wb") as stream:
        stream.truncate(size)
        stream.seek(size)
        try:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        except BaseException:  # Ctrl-C and signals, too
            stream.truncate(size)
            raise


def publish(partial: Path, target: Path) -> None:
    """Sync a finished file, or a folder with all that is in it, and rename it to `target`."""
    found = [path for path in partial.rglob("*") if path.is_file()] if partial.is_dir() else []
    if len(found) < MANY:
        for path in [*found, partial]:
            _sync(path)
    else:
        os.sync()
    os.replace(partial, target)
    _sync_folder(target.parent)


def allocate(stream: IO[bytes], size: int) -> None:
    """Take the room of a file on the disk, so that a map of it can be filled.

    Without that a full disk ends the process by a signal when the map is written to.

    Args:
        stream: of the file.
        size: of the whole file, bytes.

    Raises:
        OSError: there is no such room.
    """
    stream.flush()
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(stream.fileno(), 0, size)
    else:  # macOS
        stream.truncate(size)


def new_folder(wanted: Path) -> Path:
    """Make a folder that only this process has: `wanted`, or that with _2, _3 ... behind it.

    >>> [new_folder(Path("run")).name for _ in range(3)]
    ['run', 'run_2', 'run_3']
    """
    with explained(wanted):
        wanted.parent.mkdir(parents=True, exist_ok=True)
        for number in count(1):
            folder = wanted.with_name(f"{wanted.name}_{number}") if number > 1 else wanted
            with suppress(FileExistsError):
                folder.mkdir()
                break
    return folder


@contextmanager
def explained(place: Path | None = None, advice: str = "") -> Iterator[None]:
    """Turns the errors of a full or protected disk into an `InputError` that names the place.

    Args:
        place: that is written; null for what the error names.
        advice: what to do; by default where lookalike writes is said.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in OF_THE_USER:
            raise
        usual = "Make room, or write elsewhere: LOOKALIKE_OUTPUTS for runs, LOOKALIKE_CACHE."
        where = place or error.filename or "a file"
        raise InputError(f"can't write {where}: {error.strerror}. {advice or usual}") from error


def _remove_leftovers(file: Path) -> None:
    """Those of processes that are gone: nobody holds their lock any more."""
    for leftover in file.parent.glob(f".{escape(file.name)}.*.partial"):
        with suppress(OSError), open(leftover, "rb") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            leftover.unlink()


def _sync_folder(folder: Path) -> None:
    with suppress(OSError):  # not every file system syncs folders
        _sync(folder)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
