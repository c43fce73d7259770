"""CUB-200-2011: 11 788 photographs of 200 species of birds."""

from dataclasses import dataclass
from pathlib import Path

from lookalike.data.records import Records
from lookalike.data.sources.download import download, extract
from lookalike.data.sources.listing import (
    Listing,
    check_images,
    class_ids,
    compare_with_published,
    meanings,
)
from lookalike.errors import InputError

SOURCE = "https://data.caltech.edu/records/65de6-vp158/files/"
ARCHIVE = "CUB_200_2011.tgz"
CHECKSUM = "md5:97eceeb196236b17998738112f37df78"
IMAGES, LABELS, SPLITS = "images.txt", "image_class_labels.txt", "train_test_split.txt"
WANTED = (IMAGES, LABELS, SPLITS, "images")
SPLIT_CODES = {"1": "train", "0": "test"}
PUBLISHED = {"images": 11788, "classes": 200, "train images": 5994, "test images": 5794}
REMEDY = "Move what is damaged away and run: lookalike prepare data=cub"


@dataclass(frozen=True)
class Cub:
    """Caltech-UCSD Birds-200-2011. Wah et al., Caltech, CNS-TR-2011-001.

    A class is named like its folder, "001.Black_footed_Albatross"; classes have the order of these
    names. Zero-shot: the first 100 classes are for training, the other 100 for the test. The data
    set's own split has every class in both parts. Bounding boxes are not used, because the
    published numbers are measured on whole images. Trap: some of the images are in ImageNet, so a
    backbone that was pretrained on it may have been trained on test images.

    root: holds images.txt, image_class_labels.txt, train_test_split.txt and the folder images/.
    """

    root: str

    def prepare(self) -> None:
        """Download and unpack what is missing under `root`; existing files are kept.

        Raises:
            InputError: a download fails, or the data set is damaged.
        """
        root = Path(self.root)
        if not all((root / name).exists() for name in WANTED):
            download(SOURCE + ARCHIVE, root / ARCHIVE, CHECKSUM)
            extract(root / ARCHIVE, root, *[f"CUB_200_2011/{name}" for name in WANTED])
        compare_with_published(self.records(), "CUB-200-2011", PUBLISHED)

    def records(self) -> Records:
        """All images in the order of images.txt, with the data set's own split.

        Raises:
            InputError: a file or an image is missing, or the files contradict each other.
        """
        root = Path(self.root)
        names = self._column(IMAGES, "image_id path")
        labels = self._of_images(LABELS, "image_id class_id", names)
        splits = self._of_images(SPLITS, "image_id is_training_image", names)
        images = [root / "images" / name for name in names.values()]
        check_images(images, f"Move {root / 'images'} away and run: lookalike prepare data=cub")
        _check_folders(images, class_ids(labels, root / LABELS, REMEDY))
        return Records.create(
            images,
            [image.parent.name for image in images],
            splits=meanings(splits, SPLIT_CODES, root / SPLITS, REMEDY),
        )

    def _column(self, name: str, columns: str) -> dict[str, str]:
        """Image number -> the value of the file's second column."""
        return dict(Listing(Path(self.root, name), columns, REMEDY).rows())

    def _of_images(self, name: str, columns: str, images: dict[str, str]) -> list[str]:
        """The values of the file's second column, in the order of the images."""
        said = self._column(name, columns)
        odd = said.keys() ^ images.keys()
        if odd:
            raise InputError(
                f"{IMAGES} and {name} in {self.root} do not list the same images: {len(odd)} are "
                f"in one of them only, first {min(odd)}. {REMEDY}"
            )
        return [said[image] for image in images]


def _check_folders(images: list[Path], labels: list[int]) -> None:
    for image, label in zip(images, labels, strict=True):
        if image.parent.name.partition(".")[0] != f"{label:03d}":
            raise InputError(f"{LABELS} says class {label} of {image}. {REMEDY}")
