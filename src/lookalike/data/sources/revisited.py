"""Revisited Oxford and Paris: photographs of landmarks, 70 queries each, judged pair by pair."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lookalike.data.judgements import Judgements
from lookalike.data.records import Records
from lookalike.data.sources.distractors import UNLABELLED, distractors_in
from lookalike.data.sources.listing import check_images, compare_with_published
from lookalike.data.sources.plain_pickle import read_plain_pickle
from lookalike.errors import InputError

# setup -> the lists of a query that answer it, the lists that are left out of its ranking
SETUPS = {
    "medium": (("easy", "hard"), ("junk",)),
    "hard": (("hard",), ("junk", "easy")),
    "easy": (("easy",), ("junk", "hard")),
}
PUBLISHED = {"roxford5k": 4993, "rparis6k": 6322}  # gallery images
QUERIES, DISTRACTORS = 70, 1_001_001
ARCHIVES = {
    "roxford5k": "oxbuild_images.tgz of https://www.robots.ox.ac.uk/~vgg/data/oxbuildings",
    "rparis6k": "paris_1.tgz and paris_2.tgz of https://www.robots.ox.ac.uk/~vgg/data/parisbuildings",
}
Query = dict[str, list[int]]  # name of a list -> numbers of gallery images


@dataclass(frozen=True)
class Revisited:
    """Revisiting Oxford and Paris. Radenović et al., CVPR 2018, arXiv:1803.11285.

    A query is cropped to its box. Which gallery images are easy, hard or junk is listed for each
    query; there are three setups, named "medium", "hard" and "easy" (SETUPS). Labels play no part.

    root: holds gnd_<name>.pkl and jpg/ with all images, none in a subfolder. The file is a pickle;
        it is read as plain data (see `plain_pickle`).
    name: "roxford5k" or "rparis6k".
    distractors: folder of further gallery images, the benchmark's R1M or your own; None for none.
    """

    root: str
    name: str
    distractors: str | None = None

    def prepare(self) -> None:
        """Check the files, and warn if there are more or fewer images than published."""
        more = DISTRACTORS if self.distractors else 0
        published = {
            "query images": QUERIES,
            "gallery images": PUBLISHED.get(self.name, 0) + more,
        }
        compare_with_published(self.records(), f"revisited {self.name}", published)

    def records(self) -> Records:
        """The gallery in the order of its list, then the queries, then the distractors.

        Raises:
            InputError: a file or an image is missing, or the lists contradict each other.
        """
        file = Path(self.root, f"gnd_{self.name}.pkl")
        gallery, queries, said = _content(file, self._remedy())
        images = [Path(self.root, "jpg", f"{name}.jpg") for name in [*gallery, *queries]]
        check_images(images, self._remedy())
        more = distractors_in(self.distractors)
        landmarks = [name.rpartition("_")[0] for name in queries]
        whole = [[0, 0, 0, 0]]
        boxes = [_box(query, number, file) for number, query in enumerate(said)]
        ids = range(len(gallery), len(gallery) + len(queries))
        return Records.create(
            [*images, *more],
            [*[UNLABELLED] * len(gallery), *landmarks, *[UNLABELLED] * len(more)],
            splits=["test"] * (len(images) + len(more)),
            roles=["gallery"] * len(gallery) + ["query"] * len(queries) + ["gallery"] * len(more),
            boxes=[*whole * len(gallery), *boxes, *whole * len(more)],
            judgements=[_judgements(name, ids, said) for name in SETUPS],
        )

    def _remedy(self) -> str:
        root = Path(self.root)
        return (
            f"Put gnd_{self.name}.pkl, from "
            f"http://cmp.felk.cvut.cz/revisitop/data/datasets/{self.name}/, into {root}, and all "
            f"images of {ARCHIVES.get(self.name, 'the data set')} into {root / 'jpg'}, without "
            "subfolders; or set data.root to the folder that has them"
        )


def _content(file: Path, remedy: str) -> tuple[list[str], list[str], list[dict[str, Any]]]:
    """Names of the gallery images, names of the queries, and what is said of each query."""
    if not file.is_file():
        raise InputError(f"{file} is missing. {remedy}")
    content = read_plain_pickle(file)
    try:
        gallery, queries = (list(map(str, content[key])) for key in ("imlist", "qimlist"))
        said = [dict(query) for query in content["gnd"]]
        for query in said:
            query |= {name: _numbers(query[name], len(gallery)) for name in SETUPS["easy"][1]}
            query["easy"] = _numbers(query["easy"], len(gallery))
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise InputError(
            f"{file} is not the revisited ground truth ({error!r}). {remedy}"
        ) from error
    if len(said) != len(queries):
        raise InputError(f"{file} has {len(queries)} queries and judges {len(said)}. {remedy}")
    return gallery, queries, said


def _numbers(given: Sequence[Any], length: int) -> list[int]:
    numbers = sorted({int(number) for number in given})
    if numbers and not 0 <= numbers[0] <= numbers[-1] < length:
        raise ValueError(f"image {numbers[-1]} of {length}")
    return numbers


def _judgements(name: str, ids: Sequence[int], said: Sequence[Query]) -> Judgements:
    """Of one setup. An image in two lists of a query answers it, as in the official code."""
    right, wrong = SETUPS[name]
    relevant = [sorted({item for key in right for item in query[key]}) for query in said]
    junk = [
        sorted({item for key in wrong for item in query[key]} - set(answers))
        for query, answers in zip(said, relevant, strict=True)
    ]
    return Judgements.of_lists(list(ids), relevant, junk, name)


def _box(query: dict[str, Any], number: int, file: Path) -> list[int]:
    """The query's box in whole pixels, as Pillow rounds them when it crops."""
    try:
        left, top, right, bottom = (round(float(edge)) for edge in query["bbx"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"query {number} in {file} has no box of four numbers") from error
    if right <= max(0, left) or bottom <= max(0, top):
        raise InputError(f"query {number} in {file} has an empty box")
    return [max(0, left), max(0, top), right, bottom]
