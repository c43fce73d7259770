"""Stanford Dogs: 20 580 photographs of 120 breeds."""

from dataclasses import dataclass
from pathlib import Path

from lookalike.data.records import Records
from lookalike.data.sources.download import download, extract
from lookalike.errors import InputError

SOURCE = "https://vision.stanford.edu/aditya86/ImageNetDogs/"
IMAGES, LISTS = "images.tar", "lists.tar"
CHECKSUMS = {  # as in tensorflow_datasets/url_checksums/stanford_dogs.txt
    IMAGES: "sha256:a443fc2f9a851aa1a7b8e4fa4af94b8459fce2c9f5a2f4dd4669cf9673a4ec58",
    LISTS: "sha256:34b47cacd9a98b5d150e084f24d29391c084c55272295ec65c85651bc35f4d6c",
}
SPLIT_FILES = {"train": "train_list.mat", "test": "test_list.mat"}


@dataclass(frozen=True)
class Dogs:
    """Stanford Dogs. Khosla et al., Workshop on Fine-Grained Visual Categorization, CVPR 2011.

    A class is named like its folder; classes have the order of these names. The official split has
    12 000 training and 8580 test images. Trap: the images are taken from ImageNet, so a backbone
    that was pretrained on ImageNet was trained on the "unseen" breeds.

    root: holds Images/n02085620-Chihuahua/*.jpg and, for the official split, train_list.mat and
        test_list.mat; if one of them is missing, no image has a split.
    """

    root: str

    def prepare(self) -> None:
        """Download and unpack the data set, unless `root` holds a folder Images of any size.

        Raises:
            InputError: a download fails, or the data set is damaged.
        """
        root = Path(self.root)
        if not (root / "Images").is_dir():
            _fetch(root, LISTS, *SPLIT_FILES.values())
            _fetch(root, IMAGES, "Images")  # last: if it exists, nothing is missing
        self.records()

    def records(self) -> Records:
        """All images, sorted by folder and file name.

        Raises:
            InputError: there are none, or images of the official split are missing.
        """
        folder = Path(self.root) / "Images"
        images = sorted(file.relative_to(folder).as_posix() for file in folder.glob("n*/n*.jpg"))
        if not images:
            raise InputError(f"No images in {folder}. Run: lookalike prepare data=dogs")
        return Records.create(
            [folder / image for image in images],
            [image.partition("/")[0] for image in images],
            splits=_splits(Path(self.root), images),
        )


def _fetch(root: Path, archive: str, *names: str) -> None:
    download(SOURCE + archive, root / archive, CHECKSUMS[archive])
    extract(root / archive, root, *names)


def _splits(root: Path, images: list[str]) -> list[str] | None:
    """The split of every image, "" for one that is in no list; None without both lists."""
    files = {split: root / name for split, name in SPLIT_FILES.items()}
    if not all(file.exists() for file in files.values()):
        return None
    split_of = {image: split for split, file in files.items() for image in _read_list(file)}
    _check_none_missing(root, set(split_of) - set(images), len(split_of))
    return [split_of.get(image, "") for image in images]


def _read_list(file: Path) -> list[str]:
    """The images of a split, such as n02085620-Chihuahua/n02085620_5927.jpg."""
    from scipy.io import loadmat  # slow to import

    try:
        return [cell.item() for cell in loadmat(file)["file_list"].ravel()]
    except Exception as error:  # scipy raises nearly anything on a damaged file
        raise InputError(
            f"Could not read {file}: {error}. Unpack {SOURCE}{LISTS} again, "
            "or move the file away to go without the official split."
        ) from error


def _check_none_missing(root: Path, missing: set[str], listed: int) -> None:
    if missing:
        raise InputError(
            f"{len(missing)} of the {listed} images in the official split are missing from "
            f"{root / 'Images'}, first {min(missing)}. Move that folder away and run: lookalike "
            f"prepare data=dogs. To go without the split, move {SPLIT_FILES['train']} away."
        )
