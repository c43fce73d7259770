"""Data sets of the Hugging Face Hub: a column of images and one of labels, in Parquet files.

The Parquet files are read as they are: no script of a data set is run. Those of data sets in other
formats are in the branch that the Hub converts them to.
"""

import hashlib
import logging
import re
from dataclasses import dataclass
from pathlib import Path

from lookalike.data.cached_folder import build_or_load
from lookalike.data.records import Records
from lookalike.data.sources.folder import SPLIT_FOLDERS
from lookalike.data.sources.image_table import ImageTable, ending
from lookalike.data.sources.table import Table
from lookalike.errors import InputError, did_you_mean
from lookalike.hub import fetched
from lookalike.progress import track

VERSION = 1  # of the copies; raise it whenever one changes
CONVERTED = "refs/convert/parquet"  # the Hub's own copy of a data set
TABLE = "records.parquet"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class HubData:
    """Images and labels of a data set on the Hub, or of a local folder of Parquet files.

    The images are copied into a cache, byte by byte.

    name: "user/set", with "@revision" behind it if need be, or a folder.
    root: where copies are cached, each in a folder of its own.
    subset: of a data set that has several; null where it has one.
    image: name of the column of images; null where there is one.
    label: name of the column of labels; null for the only class label, or the column "label".
    """

    name: str
    root: str
    subset: str | None = None
    image: str | None = None
    label: str | None = None

    @property
    def folder(self) -> Path:
        """The folder of the copies; if it exists, it is complete. Other settings have another."""
        settings = (VERSION, self.name, self.subset, self.image, self.label)
        return Path(self.root) / f"hub-{hashlib.sha256(repr(settings).encode()).hexdigest()[:10]}"

    def prepare(self) -> None:
        """Fetch and copy the images, unless they are cached.

        Raises:
            InputError: the data set can't be had, or has no such columns.
        """
        build_or_load(self.folder, self._copy, Path)

    def records(self) -> Records:
        """All images, in the order of the files; splits are those that the files are named after.

        Raises:
            InputError: `prepare` was not called.
        """
        if not self.folder.exists():
            raise InputError(f"no images in {self.folder}; call prepare() first")
        return Table(str(self.folder / TABLE)).records()

    def _copy(self, folder: Path) -> None:
        from pyarrow import parquet, table  # 0.1 s that other data sets don't need

        rows: list[dict[str, str]] = []
        unlabelled = 0
        for file in track(self._files(), "Copying images"):
            for image, label in ImageTable(file, self.image, self.label).rows():
                if label is None:
                    unlabelled += 1
                    continue
                name = f"{len(rows):08d}{ending(image, f'{self.name}: {file.name}')}"
                (folder / name).write_bytes(image)
                rows.append({"path": name, "label": label, "split": _split(file)})
        if unlabelled:
            log.warning("%s: %d images have no label and are left out", self.name, unlabelled)
        if not rows:
            raise InputError(f"{self.name} has no image with a label: set data.source.label")
        columns = {key: [row[key] for row in rows] for key in rows[0]}
        parquet.write_table(table(columns), folder / TABLE)

    def _files(self) -> list[Path]:
        folder = Path(self.name)
        if not folder.is_dir():
            folder = fetched(self.name, ["*.parquet"], "dataset")
            if not any(folder.rglob("*.parquet")) and "@" not in self.name:
                folder = fetched(f"{self.name}@{CONVERTED}", ["*.parquet"], "dataset")
        found: dict[str, list[Path]] = {}
        for file in sorted(folder.rglob("*.parquet")):
            found.setdefault(_subset(file.relative_to(folder)), []).append(file)
        if not found:
            raise InputError(
                f"no Parquet files in {self.name}. Give a data set that has them, or its images "
                "with data=folder or data=table."
            )
        if len(found) > 1 or self.subset:
            return _chosen(found, self.subset, self.name)
        return next(iter(found.values()))


def _chosen(found: dict[str, list[Path]], subset: str | None, name: str) -> list[Path]:
    if subset not in found:
        hint = did_you_mean(subset, found) if subset else ""
        raise InputError(
            f"{name} has the subsets {', '.join(map(repr, found))}: set data.source.subset to one "
            f"of them.{hint}"
        )
    return found[subset]


def _subset(file: Path) -> str:
    """The folders of a file that are no splits, such as "default" of default/train/0000.parquet."""
    kept = [part for part in file.parts[:-1] if _word(part) not in SPLIT_FOLDERS]
    return "/".join(kept)


def _split(file: Path) -> str:
    """The split after which a file, or its folder, is named; "" for none.

    >>> _split(Path("data/train-00000-of-00001.parquet")), _split(Path("default/test/0000.parquet"))
    ('train', 'test')
    """
    words = (_word(file.stem), _word(file.parent.name))
    return next((SPLIT_FOLDERS[word] for word in words if word in SPLIT_FOLDERS), "")


def _word(name: str) -> str:
    found = re.match(r"(partial-)?([a-z]+)", name.lower())  # the Hub's beginning of a large split
    return found[2] if found else ""
