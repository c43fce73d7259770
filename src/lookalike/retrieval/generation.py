"""A generation of an index: which files make it up, with their checksums. manifest.json names it.

Files are never changed, only written anew under the next number or, as the vectors, appended to. A
change ends with one new manifest.json, so a reader sees the old index or the new one.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lookalike.data.manifest import Checksums, checksums_of, compare
from lookalike.errors import InputError
from lookalike.files import write_text
from lookalike.provenance import versions

FILE = "manifest.json"
FORMAT = 1  # raised when older lookalikes can no longer read what is written
KIND = "lookalike index"
OPENED = 16  # blocks of 1 MiB that are compared when an index is opened: 10 ms
PATTERNS = ("vectors-*.f32", "items-*.parquet", "faiss-*.index")  # files that get numbers


@dataclass(frozen=True)
class Generation:
    """What an index consists of at a time.

    number: from 1 on, one more with every change.
    rows: N, how many items there are.
    dimensions: D of a vector.
    next_id: that no item has had yet.
    vectors: name of the file of float32 (N, D), which may be longer.
    items: name of the Parquet file with N rows.
    faiss: name of FAISS's index; null where all vectors are compared.
    structure: kind and settings of FAISS's index.
    about: what the owner of the store notes.
    files: checksums by name, of these files and of those that the owner names.
    """

    number: int
    rows: int
    dimensions: int
    next_id: int
    vectors: str
    items: str
    faiss: str | None
    structure: dict[str, Any]
    about: dict[str, Any]
    files: dict[str, Checksums] = field(repr=False)


def read_generation(folder: Path) -> Generation:
    """The newest generation; sizes of files and some of their blocks are compared.

    Raises:
        InputError: there is no index, it is damaged, or a newer lookalike made it.
    """
    for _ in range(4):  # a writer may remove an old file between the two reads
        generation = parsed(folder)
        missing = [name for name in generation.files if not (folder / name).is_file()]
        if not missing:
            check(folder, generation, OPENED)
            return generation
        if parsed(folder).number == generation.number:
            raise _damaged(folder, f"{missing[0]} is missing")
    raise InputError(f"{folder} changes all the time. Wait until its writers are done.")


def write_generation(folder: Path, generation: Generation) -> None:
    """Make it the one that readers see; files that it does not need are removed.

    Those who have opened an older one keep its files open.
    """
    content = {"kind": KIND, "format": FORMAT, "versions": versions(), **asdict(generation)}
    write_text(folder / FILE, json.dumps(content))
    for pattern in PATTERNS:
        for file in folder.glob(pattern):
            if file.name not in generation.files:
                file.unlink(missing_ok=True)


def check(folder: Path, generation: Generation, most: int | None = None) -> None:
    """Compare files with their checksums.

    Args:
        folder: of the index.
        generation: to be checked.
        most: blocks of 1 MiB that are compared; null for all of them.

    Raises:
        InputError: a file is missing, truncated or differs.
    """
    try:
        compare(folder, generation.files, most, grows=True)
    except (OSError, ValueError) as error:
        raise _damaged(folder, str(error)) from error


def measured(folder: Path, names: Mapping[str, Checksums | None]) -> dict[str, Checksums]:
    """Checksums of files by name.

    Args:
        folder: where they lie.
        names: with the checksums that are known already, of a file as a whole or of its beginning.
    """
    return {name: checksums_of(folder / name, known or (0, [])) for name, known in names.items()}


def parsed(folder: Path) -> Generation:
    """What manifest.json says, with nothing compared.

    Raises:
        InputError: there is no index, it is damaged, or a newer lookalike made it.
    """
    file = folder / FILE
    if not file.is_file():
        unfinished = any(folder.glob("network.*"))
        raise InputError(
            f"the index at {folder.resolve()} is not built yet. Run `lookalike index build` again "
            "with the same arguments: it goes on where it stopped."
            if unfinished
            else f"no index at {folder.resolve()}. Build one: lookalike index build images=photos "
            f"out={folder} model=mobilenet_v2"
        )
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        if content.pop("kind") != KIND:
            raise ValueError("it is of another kind")
        found = content.pop("format")
        content.pop("versions")
        if found <= FORMAT:
            return Generation(**content | {"files": _checksums(content["files"])})
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise _damaged(folder, f"{FILE} is no manifest of an index: {error}") from error
    raise InputError(f"{folder} comes from a newer lookalike (format {found}): upgrade lookalike")


def _checksums(files: Mapping[str, Any]) -> dict[str, Checksums]:
    if any(Path(name).name != name for name in files):
        raise ValueError("it names a file in another folder")
    return {name: (int(size), list(each)) for name, (size, each) in files.items()}


def _damaged(folder: Path, reason: str) -> InputError:
    return InputError(
        f"the index at {folder} is damaged: {reason}. Copy it again from where it came from, or "
        "remove the folder and build it again."
    )
