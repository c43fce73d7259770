"""Checks, before any training, that each part has images, and that they can be measured."""

import numpy as np
from numpy.typing import NDArray

from lookalike.data.judgements import Judgements
from lookalike.data.records import Records
from lookalike.errors import InputError

WORK = {"train": "train on", "val": "choose the checkpoint by", "test": "test on"}


def check_trainable(records: Records, holdout: bool, folds: int) -> None:
    """Check that there are images to train on, and others by which the result can be measured.

    Args:
        records: with their splits.
        holdout: whether a validation part is held out.
        folds: see `check_measurable`.

    Raises:
        InputError: a part has no images, or can't be measured.
    """
    for part in ("train", "val", "test") if holdout else ("train", "test"):
        if not len(records.ids(part)):
            raise InputError(
                f"the {part} part has no images, so there is nothing to {WORK[part]}. Give images "
                "with split train and test, or set data.protocol=zero_shot or seen_classes. (To "
                "measure a trained network: lookalike evaluate checkpoint=... data=...)"
            )
    for part in ("val", "test"):
        check_measurable(records, part, folds)


def check_measurable(records: Records, split: str, folds: int) -> None:
    """Check that some query of a part has a relevant image in its gallery.

    Args:
        records: with their splits.
        split: the part that is to be measured; an empty one is not measured.
        folds: into which the training part is cut, for the message.

    Raises:
        InputError: no query has one, as all images of a class are of one group, or as each class
            has one image.
    """
    ids = records.ids(split)
    if any(_is_answered(each, ids) for each in records.judgements):
        return
    if not len(ids) or _queries_with_relevant(records, ids, records.exclusion_ids).any():
        return
    if _queries_with_relevant(records, ids, records.every_id).any():
        raise InputError(
            f"in the {split} part, all images of a class are of one group ({_groups(records, ids)})"
            ", and a query's own group is excluded, so nothing can be measured. Leave out the "
            "column group, or give images of a class from several cameras (or products, or "
            "photographers)."
        )
    fewer = f" Set data.folds to less than {folds}." if split == "val" and folds > 2 else ""
    raise InputError(
        f"no query of the {split} part has another image of its class in the gallery, so nothing "
        f"can be measured: {len(ids)} images of {len(np.unique(records.labels[ids]))} classes. "
        f"Give more images of each class.{fewer or ' Or set another data.protocol.'}"
    )


def _queries_with_relevant(
    records: Records, ids: NDArray[np.int64], exclusion_ids: NDArray[np.int64]
) -> NDArray[np.bool_]:
    """Whether each query has an image of its class in the gallery that is not excluded, (Q,)."""
    queries = ids[records.roles[ids] != "gallery"]
    gallery = ids[records.roles[ids] != "query"]
    of_class = np.bincount(records.labels[gallery], minlength=records.num_classes)
    left_out = np.bincount(exclusion_ids[gallery], minlength=len(records))
    return of_class[records.labels[queries]] > left_out[exclusion_ids[queries]]


def _is_answered(judgements: Judgements, ids: NDArray[np.int64]) -> bool:
    """Whether some query among these records has a relevant image among them."""
    both = np.isin(judgements.queries, ids) & np.isin(judgements.items, ids)
    return bool((both & judgements.relevant).any())


def _groups(records: Records, ids: NDArray[np.int64]) -> str:
    names = np.unique(records.groups[ids]).tolist()
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
