"""Google Landmarks Dataset v2, retrieval: 762 000 gallery images, 1129 judged queries."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from lookalike.data.judgements import Judgements
from lookalike.data.records import Records
from lookalike.data.sources.cells import read_columns
from lookalike.data.sources.distractors import UNLABELLED
from lookalike.data.sources.listing import check_images, compare_with_published
from lookalike.errors import InputError, did_you_mean

INDEX, SOLUTION = "index/index.csv", "test/retrieval_solution_v2.1.csv"
ORIGIN = "https://s3.amazonaws.com/google-landmark"
GALLERY = 761_757
QUERIES = {"Private": 750, "Public": 379, "all": 1129}

Usage = Literal["Private", "Public", "all"]


@dataclass(frozen=True)
class Landmarks:
    """Google Landmarks Dataset v2. Weyand et al., CVPR 2020, arXiv:2004.01804.

    The solution lists the gallery images that answer a query; queries that show no landmark
    (Usage "Ignored") are left out. Labels play no part.

    root: holds index/index.csv, test/retrieval_solution_v2.1.csv and the images, as in
        index/0/1/2/0123456789abcdef.jpg and test/f/e/d/fedcba9876543210.jpg.
    usage: which queries: "Private", on which papers test; "Public", to choose by; or "all".
    """

    root: str
    usage: Usage = "Private"

    def __post_init__(self) -> None:
        if self.usage not in get_args(Usage):
            raise InputError(
                f"data.source.usage={self.usage}: it is {', '.join(get_args(Usage))}."
                f"{did_you_mean(self.usage, get_args(Usage))}"
            )

    def prepare(self) -> None:
        """Check the files, and warn if there are more or fewer images than published."""
        published = {"query images": QUERIES[self.usage], "gallery images": GALLERY}
        compare_with_published(self.records(), "Google Landmarks v2", published)

    def records(self) -> Records:
        """The gallery in the order of index.csv, then the queries in the order of the solution.

        Raises:
            InputError: a file or an image is missing, or the solution names an unknown image.
        """
        gallery = self._column(INDEX, "id")["id"]
        said = self._column(SOLUTION, "id", "images", "Usage")
        wanted = {"Private", "Public"} if self.usage == "all" else {self.usage}
        chosen = [row for row, usage in enumerate(said["Usage"]) if usage in wanted]
        if not chosen:
            raise InputError(f"{Path(self.root, SOLUTION)} has no query of usage {self.usage}")
        queries = [said["id"][row] for row in chosen]
        answers = self._answers([said["images"][row] for row in chosen], gallery)
        images = [self._image("index", name) for name in gallery]
        images += [self._image("test", name) for name in queries]
        check_images(images, self._remedy())
        ids = range(len(gallery), len(images))
        return Records.create(
            images,
            [UNLABELLED] * len(images),
            splits=["test"] * len(images),
            roles=["gallery"] * len(gallery) + ["query"] * len(queries),
            judgements=[Judgements.of_lists(ids, answers)],
        )

    def _answers(self, lists: Sequence[str], gallery: Sequence[str]) -> list[list[int]]:
        """Numbers of the gallery images that each query's cell names."""
        number = {name: row for row, name in enumerate(gallery)}
        try:
            return [sorted({number[name] for name in cell.split()}) for cell in lists]
        except KeyError as error:
            raise InputError(
                f"{Path(self.root, SOLUTION)} names the image {error}, which {INDEX} lacks. "
                f"{self._remedy()}"
            ) from error

    def _column(self, name: str, *columns: str) -> dict[str, list[str]]:
        file = Path(self.root, name)
        if not file.is_file():
            raise InputError(f"{file} is missing. {self._remedy()}")
        return read_columns(file, columns, columns)

    def _image(self, part: str, name: str) -> Path:
        if len(name) < 3:
            raise InputError(f"{name!r} in {self.root} is no name of an image. {self._remedy()}")
        return Path(self.root, part, *name[:3], f"{name}.jpg")

    def _remedy(self) -> str:
        root = Path(self.root)
        return (
            f"Put {ORIGIN}/metadata/index.csv and the content of {ORIGIN}/index/images_000.tar "
            f"... images_099.tar into {root / 'index'}, and {ORIGIN}/ground_truth/"
            f"retrieval_solution_v2.1.csv and the content of {ORIGIN}/test/images_000.tar ... "
            f"images_019.tar into {root / 'test'}; or set data.root to the folder that has them"
        )
