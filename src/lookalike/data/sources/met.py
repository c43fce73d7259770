"""The Met dataset: 397 121 photographs of 224 408 museum exhibits, and 19 319 by visitors."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lookalike.data.records import Records
from lookalike.data.sources.distractors import UNLABELLED
from lookalike.data.sources.listing import check_images, compare_with_published
from lookalike.errors import InputError

QUERIES = {"test": 19_319, "val": 2165}
GALLERY = {False: 397_121, True: 38_307}  # the whole collection, the small one
ORIGIN = "http://cmp.felk.cvut.cz/met/"
Entry = dict[str, Any]


@dataclass(frozen=True)
class Met:
    """The Met Dataset. Ypsilantis et al., NeurIPS 2021, Datasets and Benchmarks, arXiv:2202.01747.

    A class is an exhibit, named by its number. Queries of other art, and of no art, show no
    exhibit; they have a class of their own, and every answer to them is wrong.

    root: holds MET_database.json, mini_MET_database.json, testset.json, valset.json (they may lie
        in ground_truth/) and the images, MET/<exhibit>/0.jpg, test_met/, test_other/, test_noart/
        (they may lie in images/).
    mini: whether the gallery is the small collection: the exhibits of the queries, and others.
    queries: "test", or "val" to choose by.
    """

    root: str
    mini: bool = False
    queries: Literal["test", "val"] = "test"

    def __post_init__(self) -> None:
        if self.queries not in QUERIES:
            raise InputError(f"data.source.queries={self.queries}: it is test or val")

    def prepare(self) -> None:
        """Check the files, and warn if there are more or fewer images than published."""
        published = {
            "query images": QUERIES[self.queries],
            "gallery images": GALLERY[self.mini],
        }
        compare_with_published(self.records(), "the Met dataset", published)

    def records(self) -> Records:
        """The gallery, then the queries, in the order of their files.

        Raises:
            InputError: a file or an image is missing or damaged.
        """
        gallery = self._entries("mini_MET_database.json" if self.mini else "MET_database.json")
        queries = self._entries(f"{self.queries}set.json")
        try:
            names = [str(entry["id"]) for entry in gallery]
            names += [str(entry.get("MET_id", UNLABELLED)) for entry in queries]
            paths = [str(entry["path"]) for entry in [*gallery, *queries]]
        except (KeyError, AttributeError, TypeError) as error:
            raise InputError(f"an entry in {self.root} has no {error}. {self._remedy()}") from error
        images = self._place("images")
        files = [images / path for path in paths]
        check_images(files, self._remedy())
        return Records.create(
            files,
            names,
            splits=["test"] * len(files),
            roles=["gallery"] * len(gallery) + ["query"] * len(queries),
        )

    def _entries(self, name: str) -> list[Entry]:
        file = self._place("ground_truth") / name
        try:
            entries = json.loads(file.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise InputError(f"{file} is missing. {self._remedy()}") from None
        except ValueError as error:
            raise InputError(f"{file} can't be read: {error}. {self._remedy()}") from error
        if not isinstance(entries, list) or not entries:
            raise InputError(f"{file} lists no images. {self._remedy()}")
        return entries

    def _place(self, folder: str) -> Path:
        inside = Path(self.root, folder)
        return inside if inside.is_dir() else Path(self.root)

    def _remedy(self) -> str:
        return (
            f"Unpack MET.tar.gz, test_met.tar.gz, test_other.tar.gz, test_noart.tar.gz and "
            f"ground_truth.tar.gz of {ORIGIN} in {self.root}, or set data.root to the folder that "
            "has MET, test_met, test_other, test_noart and the JSON files"
        )
