"""Checksums of a cached folder: written when it is built, compared when it is opened.

A folder of at most SAMPLED MiB is compared as a whole. Of a larger one every file's size is
compared, and SAMPLED blocks that differ from one opening to the next: opening stays fast, and a
cache of which a share s is wrong passes with probability (1 - s) ** SAMPLED.
"""

import json
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from random import SystemRandom
from typing import Any

from lookalike.files import write_text

FILE = "manifest.json"
FORMAT = 1  # raised when older manifests can't be read any more: their folders are built again
BLOCK = 1 << 20  # bytes that have a checksum together
Checksums = tuple[int, list[int]]  # size of a file, and the CRC-32 of each of its blocks
SAMPLED = 256  # blocks; comparing them takes 0.25 s on one core, however large the cache is


def write_manifest(folder: Path) -> None:
    """Write the checksums of all files in a folder, blocks of 1 MiB with one each (CRC-32)."""
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*")}
    checksums = {
        name: checksums_of(path)
        for name, path in sorted(files.items())
        if path.is_file() and name != FILE
    }
    write_text(folder / FILE, json.dumps({"format": FORMAT, "files": checksums}))


def check_manifest(folder: Path) -> None:
    """Compare the files in a folder with its checksums.

    Raises:
        OSError: a file is missing.
        ValueError: a file differs, or the checksums can't be read.
    """
    compare(folder, _read(folder / FILE), SAMPLED)


def compare(
    folder: Path, files: Mapping[str, Checksums], most: int | None = None, grows: bool = False
) -> None:
    """Compare files with their checksums.

    Args:
        folder: where they lie.
        files: by name.
        most: blocks that are compared; null for all of them.
        grows: whether a file may be longer than its size says; its beginning is compared.

    Raises:
        OSError: a file is missing.
        ValueError: a file differs.
    """
    blocks = []
    for name, (size, checksums) in files.items():
        found = (folder / name).stat().st_size
        if found != size and not (grows and found > size):
            raise ValueError(f"{name} has {found} bytes, expected {size}")
        blocks += [(name, number, checksum) for number, checksum in enumerate(checksums)]
    for name, number, checksum in _sample(blocks, len(blocks) if most is None else most):
        if _checksum(folder / name, number, files[name][0]) != checksum:
            raise ValueError(f"{name} differs from its checksum")


def _read(file: Path) -> dict[str, Checksums]:
    """Size and checksums of every file, by name."""
    if not file.is_file():
        raise ValueError("it has no checksums")
    content: Any = json.loads(file.read_text(encoding="utf-8"))
    try:
        if content["format"] != FORMAT:
            raise ValueError(f"its checksums have format {content['format']}, not {FORMAT}")
        return {name: (int(size), list(each)) for name, (size, each) in content["files"].items()}
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError("its checksums can't be read") from error


def _sample(blocks: list[tuple[str, int, int]], most: int) -> list[tuple[str, int, int]]:
    """All of them if they are few; in order, which a disk reads faster."""
    if len(blocks) <= most:
        return blocks
    return sorted(SystemRandom().sample(blocks, most))  # no other draw depends on it


def checksums_of(file: Path, before: Checksums = (0, [])) -> Checksums:
    """The size and the checksums of a file.

    Args:
        file: to be read.
        before: of the same file, when it was shorter; its whole blocks are not read again.
    """
    whole = before[0] // BLOCK
    with file.open("rb") as stream:
        stream.seek(whole * BLOCK)
        checksums = [zlib.crc32(block) for block in _blocks(stream)]
    return file.stat().st_size, [*before[1][:whole], *checksums]


def _blocks(stream: Any) -> Iterator[bytes]:
    while block := stream.read(BLOCK):
        yield block


def _checksum(file: Path, number: int, size: int) -> int:
    with file.open("rb") as stream:
        stream.seek(number * BLOCK)
        return zlib.crc32(stream.read(min(BLOCK, size - number * BLOCK)))
