"""What is to be embedded, cut into parts that are done one by one, in any order, anywhere."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from glob import glob, has_magic
from hashlib import sha256
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from lookalike.data.records import BOX_COLUMNS
from lookalike.data.sources.files import Skipped
from lookalike.data.sources.tars import images_in, is_tar
from lookalike.errors import InputError
from lookalike.inference.items import LISTED, listed_items

ID = pa.field("id", pa.int64())
OF_TARS = pa.schema(
    [ID, ("path", pa.string()), ("class", pa.string()), *((b, pa.int64()) for b in BOX_COLUMNS)]
)
IDS_OF_A_TAR = 2**32  # so that no tar must be read to know the ids of the next


@dataclass(frozen=True)
class Sample:
    """An image before it is read.

    facts: of its row: id, path, class, box and further columns.
    file: where it is, or what the file holds.
    """

    facts: dict[str, Any]
    file: Path | bytes

    @property
    def box(self) -> list[int]:
        """left, top, right, bottom in pixels; zeros for the whole image."""
        return [self.facts[name] for name in BOX_COLUMNS]


class Work(Protocol):
    """Images in parts. Every process that is given the same images has the same parts.

    schema: of the facts of a sample.
    digest: of what is to be done; differs if the images do.
    """

    @property
    def schema(self) -> pa.Schema: ...

    @property
    def digest(self) -> str: ...

    def __len__(self) -> int: ...

    def samples(self, part: int, skipped: Skipped) -> Iterator[Sample]:
        """The images of a part, counted from 0."""
        ...


class Listed:
    """Images of files, so many a part; ids are the places in the list.

    Args:
        items: one row an image, see `inference.items`.
        size: images a part.
    """

    def __init__(self, items: pa.Table, size: int) -> None:
        self.items = items
        self.size = size

    def __len__(self) -> int:
        return -(-self.items.num_rows // self.size)

    @property
    def schema(self) -> pa.Schema:
        """id before the columns of the items."""
        more = [field for field in self.items.schema if field.name != ID.name]
        return pa.schema([ID, *more])

    @property
    def digest(self) -> str:
        """Of all paths and boxes, and the size of a part."""
        found = sha256(str(self.size).encode())
        for batch in self.items.select(LISTED).to_batches(max_chunksize=65536):
            found.update(str(batch.to_pydict()).encode(errors="replace"))
        return found.hexdigest()[:16]

    def samples(self, part: int, skipped: Skipped) -> Iterator[Sample]:
        """The images of a part, in order."""
        start = part * self.size
        for number, facts in enumerate(self.items.slice(start, self.size).to_pylist(), start):
            yield Sample(facts | {"id": number}, Path(facts["path"]))


class Tars:
    """Images in tar files, each of which is a part.

    Args:
        files: absolute paths.
    """

    def __init__(self, files: Sequence[str]) -> None:
        self.files = files

    @property
    def schema(self) -> pa.Schema:
        """The same for all tars."""
        return OF_TARS

    def __len__(self) -> int:
        return len(self.files)

    @property
    def digest(self) -> str:
        """Of the paths."""
        return sha256("\n".join(self.files).encode()).hexdigest()[:16]

    def samples(self, part: int, skipped: Skipped) -> Iterator[Sample]:
        """The images of a tar, in order."""
        whole = dict.fromkeys(BOX_COLUMNS, 0)
        for number, image in enumerate(images_in(self.files[part], skipped)):
            path = f"{self.files[part]}/{image.name}"
            facts = {
                "id": part * IDS_OF_A_TAR + number,
                "path": path,
                "class": image.class_name,
                **whole,
            }
            yield Sample(facts, image.content)


def work_of(places: Sequence[str], part_size: int) -> Work:
    """What a user names: folders, tables, files, globs; or tars, and folders or globs of tars.

    Args:
        places: all of one kind.
        part_size: images a part, where they are no tars.

    Raises:
        InputError: nothing is there, or tars stand beside other images.
    """
    if part_size < 1:
        raise InputError(f"part_size={part_size}: need 1 or more images a part")
    found = [_tars_at(place) for place in places]
    if any(found) and not all(found):
        raise InputError("give tars or other images, not both: embed them one after the other")
    if any(found):
        return Tars(list(dict.fromkeys(file for files in found for file in files)))
    return Listed(listed_items(places), part_size)


def _tars_at(place: str) -> list[str]:
    path = Path(place)
    if path.is_dir():
        found = [each for each in path.iterdir() if is_tar(each)]
    else:
        found = [
            Path(each) for each in (glob(place, recursive=True) if has_magic(place) else [place])
        ]
    return sorted(str(each.resolve()) for each in found if is_tar(each) and each.is_file())
