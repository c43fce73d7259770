"""In-Shop Clothes Retrieval: 52 712 photographs of 7982 items of clothing, part of DeepFashion."""

from dataclasses import dataclass
from pathlib import Path

from lookalike.data.records import Records
from lookalike.data.sources.listing import Listing, check_images, compare_with_published, meanings

PARTS = {"train": ("train", "both"), "query": ("test", "query"), "gallery": ("test", "gallery")}
PUBLISHED = {
    "train images": 25882,
    "train classes": 3997,
    "query images": 14218,
    "gallery images": 12612,
    "test classes": 3985,
}


@dataclass(frozen=True)
class InShop:
    """In-Shop Clothes Retrieval Benchmark. Liu et al., DeepFashion, CVPR 2016.

    A class is an item of clothing, named as in the list, "id_00000001". The test has its own
    queries and gallery; none of their classes is in the training part. The data set can't be
    downloaded freely.

    root: holds Eval/list_eval_partition.txt and Img/img/, the content of img.zip.
    """

    root: str

    def prepare(self) -> None:
        """Check the files, and warn if there are more or fewer images than published."""
        compare_with_published(self.records(), "In-Shop Clothes Retrieval", PUBLISHED)

    def records(self) -> Records:
        """All images in the order of the list.

        Raises:
            InputError: the list or an image is missing, or the list is damaged.
        """
        root = Path(self.root)
        file = root / "Eval" / "list_eval_partition.txt"
        remedy = _remedy(root)
        listing = Listing(
            file, "image_name item_id evaluation_status", remedy, named=True, counted=True
        )
        paths, items, parts = zip(*listing.rows(), strict=True)
        images = [root / "Img" / path for path in paths]
        check_images(images, remedy)
        splits, roles = zip(*meanings(parts, PARTS, file, remedy), strict=True)
        return Records.create(images, items, splits=splits, roles=roles)


def _remedy(root: Path) -> str:
    return (
        "Its authors give In-Shop Clothes Retrieval to those who sign their agreement: "
        "https://mmlab.ie.cuhk.edu.hk/projects/DeepFashion/InShopRetrieval.html. Put "
        f"list_eval_partition.txt into {root / 'Eval'}, and unpack img.zip in {root / 'Img'}, so "
        "that it has a folder img; or set data.root to the folder with Eval and Img"
    )
