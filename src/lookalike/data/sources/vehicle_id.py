"""VehicleID: 221 567 images of 26 328 vehicles, seen from in front or from behind."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from lookalike.data.records import Records
from lookalike.data.sources.listing import Listing, check_images, compare_with_published
from lookalike.errors import InputError, did_you_mean

Size = Literal["small", "medium", "large"]
TESTS = {"small": 800, "medium": 1600, "large": 2400}  # vehicles
TRAINING = 13_164  # vehicles


@dataclass(frozen=True)
class VehicleId:
    """PKU VehicleID. Liu et al., Deep Relative Distance Learning, CVPR 2016.

    A class is a vehicle, named by its number. In a test, the gallery has one image of each vehicle,
    drawn at random, and all others are queries. The published numbers are means over such draws:
    repeat with other values of `draw`.

    root: holds image/0000001.jpg ..., train_test_split/train_list.txt and test_list_800.txt ...
    size: of the test: "small", "medium" or "large".
    gallery: "one" image of each vehicle, or "all": every image is a query and in the gallery, as
        papers on metric learning measure it; the two don't compare.
    draw: number of the draw.
    """

    root: str
    size: Size = "small"
    gallery: Literal["one", "all"] = "one"
    draw: int = 0

    def __post_init__(self) -> None:
        for key, value, allowed in (
            ("size", self.size, get_args(Size)),
            ("gallery", self.gallery, ("one", "all")),
        ):
            if value not in allowed:
                raise InputError(
                    f"data.source.{key}={value}: it is {' or '.join(allowed)}."
                    f"{did_you_mean(value, allowed)}"
                )

    def prepare(self) -> None:
        """Check the files, and warn if there are more or fewer vehicles than published."""
        published = {"train classes": TRAINING, "test classes": TESTS[self.size]}
        compare_with_published(self.records(), "VehicleID", published)

    def records(self) -> Records:
        """The images of the training list, then those of the test list, in their order.

        Raises:
            InputError: a list or an image is missing, or a vehicle is in both lists.
        """
        lists = {"train": "train_list.txt", "test": f"test_list_{TESTS[self.size]}.txt"}
        rows = [(split, *row) for split, name in lists.items() for row in self._listed(name)]
        splits, names, vehicles = zip(*rows, strict=True)
        images = [Path(self.root, "image", f"{name}.jpg") for name in names]
        check_images(images, self._remedy())
        training = splits.count("train")
        both = set(vehicles[:training]) & set(vehicles[training:])
        if both:
            raise InputError(f"vehicle {min(both)} is in both lists. {self._remedy()}")
        return Records.create(
            images,
            vehicles,
            splits=splits,
            roles=["both"] * training + self._roles(vehicles[training:]),
        )

    def _roles(self, vehicles: Sequence[str]) -> list[str]:
        """Of the test images: one of each vehicle is in the gallery, by a draw that depends on
        nothing but `draw` and the list."""
        if self.gallery == "all":
            return ["both"] * len(vehicles)
        shuffled = np.random.default_rng(self.draw).permutation(len(vehicles))
        _, first = np.unique(np.array(vehicles)[shuffled], return_index=True)
        roles = np.full(len(vehicles), "query", dtype="<U7")
        roles[shuffled[first]] = "gallery"
        return roles.tolist()

    def _listed(self, name: str) -> list[list[str]]:
        return Listing(
            Path(self.root, "train_test_split", name), "image vehicle", self._remedy()
        ).rows()

    def _remedy(self) -> str:
        return (
            "Its authors give VehicleID for research to those who ask: "
            f"https://www.pkuml.org/resources/pku-vehicleid.html. Unpack it as {self.root}, so "
            "that this folder has image and train_test_split, or set data.root to the one that has "
            "them"
        )
