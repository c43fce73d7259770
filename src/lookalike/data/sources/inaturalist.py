"""iNaturalist 2018, split for retrieval: 8142 species, those of the test not in training."""

from dataclasses import dataclass
from pathlib import Path

from lookalike.data.records import Records
from lookalike.data.sources.listing import Listing, check_images, compare_with_published
from lookalike.errors import InputError

FOLDER = "Inat_dataset_splits"
LISTS = {"train": "Inaturalist_train_set1.txt", "test": "Inaturalist_test_set1.txt"}
PUBLISHED = {
    "train images": 325_846,
    "train classes": 5690,
    "test images": 136_093,
    "test classes": 2452,
}


@dataclass(frozen=True)
class INaturalist:
    """iNaturalist 2018. Van Horn et al., CVPR 2018.

    Split by the lists of Brown et al., Smooth-AP, ECCV 2020. A class is a species, named
    by its folders, "Aves/3100". No species is in both lists.

    root: holds train_val2018/<group>/<species>/<image>.jpg, and the lists, beside it or in
        Inat_dataset_splits/.
    """

    root: str

    def prepare(self) -> None:
        """Check the files, and warn if there are more or fewer images than published."""
        compare_with_published(self.records(), "iNaturalist 2018", PUBLISHED)

    def records(self) -> Records:
        """All images in the order of the two lists, the training images first.

        Raises:
            InputError: a list or an image is missing, or a species is in both lists.
        """
        root, remedy = Path(self.root), _remedy(Path(self.root))
        folder = root / FOLDER if (root / FOLDER).is_dir() else root
        rows = [
            (split, path)
            for split, name in LISTS.items()
            for (path,) in Listing(folder / name, "path", remedy).rows()
        ]
        splits, paths = zip(*rows, strict=True)
        species = ["/".join(Path(path).parts[-3:-1]) for path in paths]
        both = {name for name, split in zip(species, splits, strict=True) if split == "train"} & {
            name for name, split in zip(species, splits, strict=True) if split == "test"
        }
        if both:
            raise InputError(f"{min(both)} is in both lists of {folder}. {remedy}")
        images = [root / path for path in paths]
        check_images(images, remedy)
        return Records.create(images, species, splits=splits)


def _remedy(root: Path) -> str:
    return (
        "Unpack train_val2018.tar.gz of https://github.com/visipedia/inat_comp/tree/master/2018 in "
        f"{root}, and put {' and '.join(LISTS.values())} into {root / FOLDER}; the lists are "
        "linked from https://github.com/Andrew-Brown1/Smooth_AP; or set data.root to the folder "
        "that has them"
    )
