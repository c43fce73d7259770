"""ILIAS: 1000 particular objects, 1232 queries, 4715 answers, and up to 100 million distractors."""

from dataclasses import dataclass
from pathlib import Path

from lookalike.data.records import Records
from lookalike.data.sources.distractors import UNLABELLED, distractors_in
from lookalike.data.sources.files import folders_in, images_below
from lookalike.data.sources.listing import compare_with_published
from lookalike.errors import InputError

ROLES = {"query": "query", "pos": "gallery"}  # folder of an object -> role
PUBLISHED = {"query images": 1232}
ANSWERS = 4715
ORIGIN = "https://vrg.fel.cvut.cz/ilias_data"


@dataclass(frozen=True)
class Ilias:
    """ILIAS. Kordopatis-Zilos et al., CVPR 2025, arXiv:2502.11748.

    A class is an object, named by its folder, "bold_bimp_000". Images are whole, as in the
    benchmark's own code: boxes are there to be analysed. Text queries are not read.

    root: holds ilias_core/<object>/query/Q000_00.jpg and ilias_core/<object>/pos/P000_00.jpg.
    distractors: folder of further gallery images, such as the unpacked shards of YFCC100M; None for
        none, which is no published setting.
    """

    root: str
    distractors: str | None = None

    def prepare(self) -> None:
        """Check the files, and warn if there are more or fewer images than published."""
        more = len(distractors_in(self.distractors))
        published = PUBLISHED | {"gallery images": ANSWERS + more}
        compare_with_published(self.records(), "ILIAS", published)

    def records(self) -> Records:
        """The images of each object, sorted, then the distractors.

        Raises:
            InputError: a folder is missing, or an object has no query or no other image.
        """
        core = Path(self.root, "ilias_core")
        objects = folders_in(core) if core.is_dir() else []
        if not objects:
            raise InputError(f"{core} has no folders of objects. {_remedy(Path(self.root))}")
        rows = [
            (image, thing.name, role)
            for thing in objects
            for folder, role in ROLES.items()
            for image in self._images(thing / folder)
        ]
        rows += [(image, UNLABELLED, "gallery") for image in distractors_in(self.distractors)]
        paths, names, roles = zip(*rows, strict=True)
        return Records.create(paths, names, splits=["test"] * len(rows), roles=roles)

    def _images(self, folder: Path) -> list[Path]:
        found = images_below(folder) if folder.is_dir() else []
        if not found:
            raise InputError(f"no images in {folder}. {_remedy(Path(self.root))}")
        return found


def _remedy(root: Path) -> str:
    return (
        f"Unpack {ORIGIN}/ilias_core.tar in {root}, so that it has the folder ilias_core, or set "
        f"data.root to the folder that has it. Distractors: {ORIGIN}/yfcc100m/, unpacked into a "
        "folder that data.source.distractors names"
    )
