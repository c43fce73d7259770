"""Downloads that are resumed and retried, and archives unpacked completely or not at all."""

import hashlib
import logging
import shutil
import tarfile
import time
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import requests
from filelock import FileLock
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from lookalike.errors import InputError
from lookalike.files import publish

log = logging.getLogger(__name__)

ATTEMPTS = 4
PAUSE = 1.0  # seconds before the second attempt, doubled before each further one
TIMEOUT = (10, 60)  # seconds to connect, seconds between two chunks
MOST_UNPACKED = 2**38  # bytes that an archive may unpack to, 256 GiB
MOST_TIMES = 200  # times its own size that it may unpack to; images hardly shrink, text does by ten
SMALL = 2**30  # bytes that any archive may unpack to
CHUNK = 1 << 16  # bytes; a dropped connection costs less than one chunk


def download(url: str, file: Path, checksum: str) -> None:
    """Download a file; one that exists already is only verified.

    Bytes are written to `<file>.part`, which a later call resumes. It is renamed once verified. If
    several processes call this at once, one downloads and the others wait.

    Args:
        url: of the file; its server may support HTTP ranges.
        file: where it is saved.
        checksum: "md5:" or "sha256:" followed by hexadecimal digits.

    Raises:
        InputError: the file can't be downloaded, or has another checksum.
    """
    if _is_downloaded(file, checksum):
        return
    try:
        with _lock(file.parent):
            if not _is_downloaded(file, checksum):
                _fetch(url, file, checksum)
    except OSError as error:  # what requests raises is an OSError too
        reason = f"Could not download {url}: {_reason(error)}."
        raise InputError(f"{reason}\n{_next_step(url, file)}") from error


def extract(archive: Path, folder: Path, *names: str) -> None:
    """Unpack entries of an archive; those that exist already are skipped.

    Each entry appears in the folder completely or not at all.

    Args:
        archive: a .zip or tar file.
        folder: where entries are unpacked.
        names: of files or folders in the archive. "birds/images" is unpacked as folder/images.

    Raises:
        InputError: the archive is damaged, lacks an entry, would write outside the folder, or
            unpacks to more than images can.
    """
    with _lock(folder):
        missing = [name for name in names if not (folder / Path(name).name).exists()]
        if missing:
            _unpack(archive, folder, missing)


def _is_downloaded(file: Path, checksum: str) -> bool:
    """Whether the file exists; raises InputError if it exists with another checksum."""
    if not file.exists():
        return False
    found = _checksum(file, like=checksum)
    if found != checksum:
        raise InputError(
            f"{file} is damaged or another version: expected {checksum}, found {found}. "
            "Move it away and run the command again."
        )
    return True


def _checksum(file: Path, like: str) -> str:
    algorithm = like.partition(":")[0]
    with file.open("rb") as stream:
        return f"{algorithm}:{hashlib.file_digest(stream, algorithm).hexdigest()}"


def _lock(folder: Path) -> FileLock:
    folder.mkdir(parents=True, exist_ok=True)
    return FileLock(folder / ".download.lock")


def _next_step(url: str, file: Path) -> str:
    return (
        "Run the command again to go on where it stopped, "
        f"or fetch {url} by hand and put it at {file.absolute()}"
    )


def _fetch(url: str, file: Path, checksum: str) -> None:
    part = file.with_name(f"{file.name}.part")
    resumed = part.exists()
    _transfer(url, part)
    if resumed and _checksum(part, like=checksum) != checksum:
        part.unlink()  # it was too long, or another version of the file
        _transfer(url, part)
    found = _checksum(part, like=checksum)
    if found != checksum:
        part.unlink()
        raise InputError(
            f"What {url} sent is not the expected file: expected {checksum}, found {found}. "
            f"{_next_step(url, file)}"
        )
    publish(part, file)


def _transfer(url: str, part: Path) -> None:
    """Append to `part` until the file is complete; transient errors are retried."""
    for attempt in range(ATTEMPTS):
        try:
            return _transfer_rest(url, part)
        except requests.RequestException as error:
            if attempt == ATTEMPTS - 1 or not _is_transient(error):
                raise
            pause = PAUSE * 2**attempt
            log.warning(
                "%s. Attempt %d of %d in %g s.", _reason(error), attempt + 2, ATTEMPTS, pause
            )
            time.sleep(pause)


def _reason(error: OSError) -> str:
    """What went wrong, without what requests and urllib3 tell of their own attempts."""
    cause = getattr(error.args[0] if error.args else None, "reason", None)
    return str(cause or error).rstrip(".")


def _is_transient(error: requests.RequestException) -> bool:
    """Whether another attempt may succeed: an error of the server, or a lost connection."""
    if error.response is not None:
        return error.response.status_code >= 500
    lost_connection = (
        requests.ConnectionError,
        requests.Timeout,
        requests.exceptions.ChunkedEncodingError,
    )
    return isinstance(error, lost_connection)


def _transfer_rest(url: str, part: Path) -> None:
    start = part.stat().st_size if part.exists() else 0  # bytes
    headers = {"Accept-Encoding": "identity"}  # ranges are offsets into the uncompressed file
    if start:
        headers["Range"] = f"bytes={start}-"
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
        if response.status_code == 416:  # no bytes are left; the checksum is verified later
            return
        response.raise_for_status()
        _write(response, part, start if response.status_code == 206 else 0)


def _write(response: requests.Response, part: Path, start: int) -> None:
    length = int(response.headers.get("Content-Length", 0))
    with _progress() as progress, part.open("ab" if start else "wb") as stream:
        task = progress.add_task(
            part.stem, total=start + length if length else None, completed=start
        )
        for chunk in response.iter_content(CHUNK):
            stream.write(chunk)
            progress.advance(task, len(chunk))


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )


def _unpack(archive: Path, folder: Path, names: list[str]) -> None:
    staging = folder / f".{archive.name}.unpacking"
    shutil.rmtree(staging, ignore_errors=True)  # left behind by a run that was killed
    try:
        with Console(stderr=True).status(f"unpacking {archive.name}"):
            _unpack_all(archive, staging)
        for name in names:
            publish(staging / name, folder / Path(name).name)
    except (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, OSError) as error:
        raise InputError(
            f"Could not unpack {archive}: {error}\n"
            "If it is damaged, delete it and run the command again."
        ) from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _unpack_all(archive: Path, folder: Path) -> None:
    if archive.suffix == ".zip":
        with zipfile.ZipFile(archive) as packed:
            entries = bounded(archive, packed.infolist(), lambda entry: entry.file_size)
            packed.extractall(folder, list(entries))  # drops ".." from paths, creates no links
    else:
        with tarfile.open(archive) as tar:
            entries = bounded(archive, tar, lambda entry: entry.size)
            tar.extractall(folder, entries, filter="data")


Entry = TypeVar("Entry")


def bounded(
    archive: Path, entries: Iterable[Entry], size: Callable[[Entry], int]
) -> Iterator[Entry]:
    """The entries of an archive, as long as they unpack to no more than images can.

    Args:
        archive: a file.
        entries: in it.
        size: of an entry, bytes; unpacked it never gets longer than the archive says.

    Raises:
        InputError: there are more bytes in them.
    """
    most = min(MOST_UNPACKED, max(SMALL, MOST_TIMES * archive.stat().st_size))
    total = 0
    for entry in entries:
        total += size(entry)
        if total > most:
            raise InputError(
                f"{archive} would unpack to more than {most / 2**30:.1f} GiB, which no data set of "
                "images does: it is damaged, or made to fill the disk. Delete it, and see where it "
                "is from."
            )
        yield entry
