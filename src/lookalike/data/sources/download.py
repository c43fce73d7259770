"""Downloads that survive a bad connection, and archives unpacked whole or not at all."""

import hashlib
import shutil
import tarfile
import time
import zipfile
import zlib
from pathlib import Path

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

ATTEMPTS = 4
PAUSE = 1.0  # seconds before the second attempt, doubled before each further one
TIMEOUT = (10, 60)  # seconds to connect, seconds between two chunks
CHUNK = 1 << 16  # bytes; a dropped connection costs less than one chunk


def download(url: str, file: Path, checksum: str) -> None:
    """Fetch `url` into `file`; a file that is there is only verified.

    `checksum` is "md5:" or "sha256:" and hexadecimal digits. Bytes arrive in `<file>.part`, which a
    later call resumes, and only a verified file gets its name. Several processes may call this at
    once: one fetches, the others wait. Raises InputError if the file cannot be had or is wrong.
    """
    if _is_there(file, checksum):
        return
    try:
        with _lock(file.parent):
            if not _is_there(file, checksum):
                _fetch(url, file, checksum)
    except OSError as error:  # what requests raises is an OSError too
        raise InputError(f"Could not download {url}: {error}\n{_next_step(url, file)}") from error


def extract(archive: Path, folder: Path, *names: str) -> None:
    """Unpack the entries `names` of a tar archive, or of a .zip, into `folder`.

    An entry below others is lifted out of them: "birds/images" becomes folder/images. Each appears
    whole or not at all; one that is there already is left as it is. Raises InputError if the
    archive is damaged, lacks an entry, or would write outside of `folder`.
    """
    with _lock(folder):
        missing = [name for name in names if not (folder / Path(name).name).exists()]
        if missing:
            _unpack(archive, folder, missing)


def _is_there(file: Path, checksum: str) -> bool:
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
        part.unlink()  # it was too long, or began as another version of the file
        _transfer(url, part)
    found = _checksum(part, like=checksum)
    if found != checksum:
        part.unlink()
        raise InputError(
            f"What {url} sent is not the expected file: expected {checksum}, found {found}. "
            f"{_next_step(url, file)}"
        )
    part.replace(file)


def _transfer(url: str, part: Path) -> None:
    """Append to `part` until the server has no more; passing troubles are tried again."""
    for attempt in range(ATTEMPTS):
        try:
            return _transfer_rest(url, part)
        except requests.RequestException as error:
            if attempt == ATTEMPTS - 1 or not _may_pass(error):
                raise
            time.sleep(PAUSE * 2**attempt)


def _may_pass(error: requests.RequestException) -> bool:
    if error.response is not None:
        return error.response.status_code >= 500
    dropped = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)
    return isinstance(error, dropped)


def _transfer_rest(url: str, part: Path) -> None:
    start = part.stat().st_size if part.exists() else 0  # bytes
    headers = {"Accept-Encoding": "identity"}  # offsets into a compressed stream mean nothing
    if start:
        headers["Range"] = f"bytes={start}-"
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
        if response.status_code == 416:  # nothing is left: whole or too long, the checksum tells
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
            (staging / name).rename(folder / Path(name).name)
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
            packed.extractall(folder)  # leaves ".." out of paths, and makes no links
    else:
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")
