"""Records: what is known of every image of a data set, before any image is opened."""

import csv
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lookalike.data.judgements import Judgements
from lookalike.errors import InputError, nearest_names
from lookalike.files import writing

SPLITS = ("train", "val", "test", "")  # "" is not used at all
ROLES = ("query", "gallery", "both")
COLUMNS = ("path", "label", "class_name", "split", "role", "group")
BOX_COLUMNS = ("left", "top", "right", "bottom")


@dataclass(frozen=True, eq=False)
class Records:
    """One row an image; a record's id is its row number, so rows are never dropped or reordered.

    paths: (N,) str.
    labels: (N,) int64, 0..C-1.
    class_names: (C,) str, in the order of the labels.
    splits: (N,) str, each "train", "val", "test" or "" for none of them.
    roles: (N,) str, each "query", "gallery" or "both".
    groups: (N,) str, the camera, product or photographer of an image, "" for none. Gallery images
        of a query's own class and own group are excluded from its results.
    boxes: (N, 4) int64, left, top, right, bottom of the object in pixels of the upright image,
        right and bottom exclusive; four zeros for the whole image. None if all images are whole.
    judgements: which images answer which query, where the data set lists them; labels then play
        no part in retrieval. One for each setup ("easy", "hard").

    Raises:
        InputError: the columns differ in length, hold nothing, or hold an unknown split or role.
    """

    paths: NDArray[np.str_]
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    splits: NDArray[np.str_]
    roles: NDArray[np.str_]
    groups: NDArray[np.str_]
    boxes: NDArray[np.int64] | None = None
    judgements: tuple[Judgements, ...] = ()

    def __post_init__(self) -> None:
        columns = [self.paths, self.labels, self.splits, self.roles, self.groups]
        columns += [] if self.boxes is None else [self.boxes]
        if len({len(column) for column in columns}) != 1:
            raise InputError(f"columns differ in length: {[len(column) for column in columns]}")
        if not len(self.paths):
            raise InputError("no records: the data set holds no images")
        _check_values("split", self.splits, SPLITS)
        _check_values("role", self.roles, ROLES)

    @classmethod
    def create(
        cls,
        paths: Sequence[str | Path],
        class_names: Sequence[str],
        *,
        classes: Sequence[str] | None = None,
        splits: Sequence[str] | None = None,
        roles: Sequence[str] | None = None,
        groups: Sequence[str] | None = None,
        boxes: Sequence[Sequence[int]] | None = None,
        judgements: Sequence[Judgements] = (),
    ) -> "Records":
        """Records from columns of N values. Classes get the labels 0..C-1.

        Args:
            paths: of the images.
            class_names: the class of each image; it may be a number, with or without gaps. Names
                are taken as `class_text` gives them.
            classes: the distinct names in the order of their labels; None sorts them, numbers by
                their value.
            splits: of each image; None for "".
            roles: of each image; None for "both".
            groups: of each image; None for "".
            boxes: of each image, (N, 4); None if all images are whole.
            judgements: of queries, one for each setup; none if labels decide.

        Raises:
            InputError: the columns do not fit each other, see `Records`.

        >>> Records.create(["a.jpg", "b.jpg", "c.jpg"], ["sofa", "bed", "sofa"]).labels.tolist()
        [1, 0, 1]
        """
        named = [class_text(name) for name in class_names]
        ordered = (
            _sorted_names(named) if classes is None else [class_text(name) for name in classes]
        )
        label_of = {name: label for label, name in enumerate(ordered)}
        return cls(
            paths=np.array([str(path) for path in paths], dtype=np.str_),
            labels=np.array([label_of[name] for name in named], dtype=np.int64),
            class_names=tuple(ordered),
            splits=_column(splits, len(paths), ""),
            roles=_column(roles, len(paths), "both"),
            groups=_column(groups, len(paths), ""),
            boxes=None if boxes is None else np.array(boxes, dtype=np.int64).reshape(-1, 4),
            judgements=tuple(judgements),
        )

    def __len__(self) -> int:
        return len(self.paths)

    @property
    def num_classes(self) -> int:
        """C, the number of classes."""
        return len(self.class_names)

    @property
    def every_id(self) -> NDArray[np.int64]:
        """The ids of all records, 0..N-1, (N,)."""
        return np.arange(len(self), dtype=np.int64)

    def ids(self, *splits: str) -> NDArray[np.int64]:
        """The ids of the records in any of these splits, ascending, (M,)."""
        return np.flatnonzero(np.isin(self.splits, splits)).astype(np.int64)

    def of_classes(self, names: Sequence[str]) -> "Records":
        """A new data set with the images of these classes only.

        Its labels are 0..C-1, in the order of the classes here; its ids are new too.

        Raises:
            InputError: there is no class of that name.
        """
        wanted = {check_class(name, self.class_names) for name in names}
        kept = [label for label, name in enumerate(self.class_names) if name in wanted]
        return self.at(np.flatnonzero(np.isin(self.labels, kept)))

    def at(self, rows: NDArray[np.int64]) -> "Records":
        """A new data set of the images with these ids, and of their classes alone.

        Its labels are 0..C-1, in the order of the classes here; its ids are new too.
        """
        kept = np.unique(self.labels[rows])
        return replace(
            self,
            paths=self.paths[rows],
            labels=np.searchsorted(kept, self.labels[rows]).astype(np.int64),
            class_names=tuple(self.class_names[label] for label in kept),
            splits=self.splits[rows],
            roles=self.roles[rows],
            groups=self.groups[rows],
            boxes=None if self.boxes is None else self.boxes[rows],
            judgements=tuple(each.among(rows, len(self)) for each in self.judgements),
        )

    def box(self, row: int) -> list[int] | None:
        """The box of one image, left, top, right, bottom in pixels; None without boxes."""
        return None if self.boxes is None else self.boxes[row].tolist()

    def labels_as(self, names: Sequence[str]) -> NDArray[np.int64]:
        """The position of each image's class in a list of names, -1 if it is not there, (N,).

        >>> Records.create(["a.jpg", "b.jpg"], ["bed", "sofa"]).labels_as(["sofa"]).tolist()
        [-1, 0]
        """
        number = {class_text(name): row for row, name in enumerate(names)}
        numbers = np.array([number.get(name, -1) for name in self.class_names], dtype=np.int64)
        return numbers[self.labels]

    @property
    def exclusion_ids(self) -> NDArray[np.int64]:
        """Which images are excluded from each other's results: those with the same number, (N,).

        Images of one class from one group share a number. That of an image without a group is its
        own id, so that only the image itself is excluded.
        """
        ids = np.arange(len(self))
        pairs = np.stack([self.labels, np.unique(self.groups, return_inverse=True)[1]], axis=1)
        _, first, pair = np.unique(pairs, axis=0, return_index=True, return_inverse=True)
        return np.where(self.groups == "", ids, first[pair.ravel()])

    def write(self, file: str | Path, relative_to: str | Path | None = None) -> None:
        """Write all columns as CSV; paths inside `relative_to` are written relative to it."""
        with writing(file) as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(("id", *COLUMNS, *(BOX_COLUMNS if self.boxes is not None else ())))
            writer.writerows(self._cells(row, relative_to) for row in range(len(self)))

    def _cells(self, row: int, root: str | Path | None) -> tuple[object, ...]:
        label = int(self.labels[row])
        return (
            row,
            _shortened(self.paths[row], root),
            label,
            self.class_names[label],
            self.splits[row],
            self.roles[row],
            self.groups[row],
            *(self.box(row) or ()),
        )


def class_text(name: object) -> str:
    """The name of a class as text, in composed Unicode, without white space around it.

    So "é" is one class, whether a file system writes it with one character or with two.

    >>> class_text("cafe\u0301 "), class_text(7)
    ('café', '7')
    """
    return unicodedata.normalize("NFC", str(name)).strip()


def check_class(name: object, names: Sequence[str]) -> str:
    """The name as text, if there is a class of this name.

    Raises:
        InputError: there is none; the message has the nearest names.
    """
    text = class_text(name)
    if text not in names:
        close = nearest_names(text, names) or list(names)[:10]
        raise InputError(
            f"no class {text!r} among {len(names)}. Did you mean {' or '.join(close)}?"
        )
    return text


def _column(values: Sequence[str] | None, length: int, default: str) -> NDArray[np.str_]:
    return np.array(values if values is not None else [default] * length, dtype=np.str_)


def _check_values(name: str, column: NDArray[np.str_], allowed: tuple[str, ...]) -> None:
    unknown = sorted(set(np.unique(column).tolist()) - set(allowed))
    if unknown:
        choices = ", ".join(repr(value) for value in allowed)
        raise InputError(f"unknown {name} {unknown[0]!r}; a {name} is one of {choices}")


def _sorted_names(names: Sequence[str]) -> list[str]:
    distinct = sorted(set(names))  # first: 1, 01 and 001 are equal as numbers
    numbers = all(name.isascii() and name.isdecimal() for name in distinct)
    return sorted(distinct, key=_digits) if numbers else distinct


def _digits(name: str) -> tuple[int, str]:
    """Sorts decimal numbers of any length by their value."""
    digits = name.lstrip("0")
    return len(digits), digits


def _shortened(path: str, root: str | Path | None) -> str:
    given = Path(path)
    if root is not None and str(root) and given.is_relative_to(root):
        return given.relative_to(root).as_posix()
    return given.as_posix()
