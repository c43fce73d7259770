"""Stanford Online Products: 120 053 photographs of 22 634 products that were sold on eBay."""

from dataclasses import dataclass
from pathlib import Path

from lookalike.data.records import Records
from lookalike.data.sources.download import download, extract
from lookalike.data.sources.listing import Listing, check_images, class_ids, compare_with_published
from lookalike.errors import InputError

# the official ftp server; no HTTPS address is known, so what counts is the checksum
SOURCE = "http://ftp.cs.stanford.edu/cs/cvgl/"
ARCHIVE = "Stanford_Online_Products.zip"
CHECKSUM = "md5:7f73d41a2f44250d4779881525aea32e"
LISTS = {"train": "Ebay_train.txt", "test": "Ebay_test.txt"}
SUPER_CLASSES = (
    "bicycle", "cabinet", "chair", "coffee_maker", "fan", "kettle",
    "lamp", "mug", "sofa", "stapler", "table", "toaster",
)  # fmt: skip
WANTED = (*LISTS.values(), *[f"{name}_final" for name in SUPER_CLASSES])
PUBLISHED = {
    "train images": 59551,
    "train classes": 11318,
    "test images": 60502,
    "test classes": 11316,
}
REMEDY = "Move what is damaged away and run: lookalike prepare data=sop"
COPIES = "https://github.com/rksltnl/Deep-Metric-Learning-CVPR16"


@dataclass(frozen=True)
class Sop:
    """Stanford Online Products. Oh Song et al., CVPR 2016.

    A class is a product, named by its number and super-class: "00001 bicycle". The data set's own
    split is the zero-shot one: no product is in both parts. Super-classes are not used as groups,
    since a query must also be compared with products of its own super-class.

    root: holds Ebay_train.txt, Ebay_test.txt and the folders bicycle_final/ ... toaster_final/.
    """

    root: str

    def prepare(self) -> None:
        """Download and unpack what is missing under `root`; existing files are kept.

        Raises:
            InputError: a download fails, or the data set is damaged.
        """
        root = Path(self.root)
        if not all((root / name).exists() for name in WANTED):
            _download(root / ARCHIVE)
            extract(root / ARCHIVE, root, *[f"Stanford_Online_Products/{name}" for name in WANTED])
        compare_with_published(self.records(), "Stanford Online Products", PUBLISHED)

    def records(self) -> Records:
        """All images in the order of the two lists, the training images first.

        Raises:
            InputError: a file or an image is missing, or a list is damaged.
        """
        root = Path(self.root)
        rows = [(split, *row) for split, name in LISTS.items() for row in _listed(root / name)]
        splits, _, ids, _, paths = zip(*rows, strict=True)
        images = [root / path for path in paths]
        check_images(images, REMEDY)
        return Records.create(
            images,
            [
                f"{label:05d} {image.parent.name.removesuffix('_final')}"
                for label, image in zip(class_ids(ids, root, REMEDY), images, strict=True)
            ],
            splits=splits,
        )


def _download(archive: Path) -> None:
    try:
        download(SOURCE + ARCHIVE, archive, CHECKSUM)
    except InputError as error:
        raise InputError(f"{error}\nIts authors link to other copies: {COPIES}") from error


def _listed(file: Path) -> list[list[str]]:
    return Listing(file, "image_id class_id super_class_id path", REMEDY, named=True).rows()
