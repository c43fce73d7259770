"""Market-1501 and DukeMTMC-reID: pedestrians photographed by several cameras."""

import re
from dataclasses import dataclass
from pathlib import Path

from lookalike.data.records import Records
from lookalike.errors import InputError

PARTS = {  # folder -> split, role
    "bounding_box_train": ("train", "both"),
    "query": ("test", "query"),
    "bounding_box_test": ("test", "gallery"),
}
NAME = re.compile(r"(-1|\d{4})_c(\d+)(?:s\d+_\d+_\d+|_f\d+)\.jpg")
JUNK, DISTRACTOR = "-1", "0000"


@dataclass(frozen=True)
class Market:
    """Market-1501. Zheng et al., ICCV 2015. DukeMTMC-reID: Zheng et al., ICCV 2017.

    Both have the folders bounding_box_train, query and bounding_box_test. A file name begins with
    identity and camera, as 0002_c1s1_000451_03.jpg or 0005_c2_f0046985.jpg.

    The camera is the group: images of a query's own identity from its own camera are excluded from
    its results. Junk (identity -1) gets no record, as the official evaluation removes it from every
    ranking. Distractors (identity 0000) stay in the gallery as wrong answers. They have the last
    label, which no query has; data.counts and logs count it as a class.

    root: the folder that holds the three folders.
    origin: where the files can be obtained; part of the message if they are missing.
    """

    root: str
    origin: str

    def prepare(self) -> None:
        """Check that the folders and their images exist; see `records`."""
        self.records()

    def records(self) -> Records:
        """All images except junk, sorted by folder and file name.

        Raises:
            InputError: a folder has no images, or a file name has another form.
        """
        rows = [
            (image, *_identity_and_camera(image), *part)
            for folder, part in PARTS.items()
            for image in self._images(folder)
        ]
        rows = [row for row in rows if row[1] != JUNK]
        paths, identities, cameras, splits, roles = zip(*rows, strict=True)
        return Records.create(
            paths,
            identities,
            classes=sorted(set(identities), key=lambda name: (name == DISTRACTOR, name)),
            splits=splits,
            roles=roles,
            groups=cameras,
        )

    def _images(self, folder: str) -> list[Path]:
        found = sorted(Path(self.root, folder).glob("*.jpg"))
        if not found:
            raise InputError(
                f"no images in {Path(self.root, folder).resolve()}. {self.origin} Unpack them so "
                f"that this folder has {', '.join(PARTS)}, or set data.root to the one that has."
            )
        return found


def _identity_and_camera(image: Path) -> tuple[str, str]:
    parsed = NAME.fullmatch(image.name)
    if parsed is None:
        raise InputError(
            f"{image} is not named as identity_camera...: right are 0002_c1s1_000451_03.jpg "
            "(Market-1501: identity 2, camera 1) and 0005_c2_f0046985.jpg (DukeMTMC-reID), with "
            "-1 for junk and 0000 for distractors. Rename the file or move it away."
        )
    return parsed[1], f"c{parsed[2]}"
