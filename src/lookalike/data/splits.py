"""Splits: which records are for training, validation and test.

Nothing is ever chosen on the test set: the validation part is always cut from the training part.
"""

import logging
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from lookalike.data.records import Records
from lookalike.errors import InputError, did_you_mean

PROTOCOLS = ("auto", "zero_shot", "official", "seen_classes", "query_gallery", "test")

log = logging.getLogger(__name__)


def assign_splits(
    records: Records, protocol: str, folds: int = 4, fold: int = 0, seed: int = 0
) -> Records:
    """The same records with "train", "val" or "test" as splits, equal on every machine.

    Args:
        records: all of a data set.
        protocol:
            - "auto": "query_gallery" for data with such roles, "official" for data with a split of
              their own, otherwise "zero_shot", or "seen_classes" where the classes are too few.
            - "zero_shot": the first half of the classes is for training and validation, the second
              half for the test (Oh Song et al., CVPR 2016). A data set whose own split into
              "train" and "test" has no class in both keeps it. For validation, every `folds`-th
              training class is taken, starting with number `fold`: folds are class-disjoint, as in
              Musgrave et al., ECCV 2020.
            - "official": the data set's own split, with the same classes in all parts. Its
              validation part is fold 0; without one, one image in `folds` of each class is cut from
              the training part.
              A data set with only "train" and "val" is tested on its "val". One whose own split
              has no class in both parts is split as by "zero_shot". One that is all "test" is
              tested, and can't be trained on.
            - "seen_classes": all classes are in all parts. Of each class, one image in five is for
              the test, and one in `folds` of the others for validation.
            - "query_gallery": the data set's own roles and splits ("train", "test"), with
              class-disjoint validation folds cut from "train". Without any split, all are "test".
            - "test": for networks that are already trained, on data that they have not seen. The
              data set's own "test" part, or its "val" part; without any split, all images.
        folds: number of parts into which the training classes (or images) are cut, from 2 on.
        fold: number of the part that is for validation, 0..folds-1.
        seed: of the images drawn by "seen_classes", and by "official" without a validation part.

    Raises:
        InputError: an unknown protocol, a fold out of range, or too few classes or images.
    """
    if not 0 <= fold < folds or folds < 2:
        raise InputError(
            f"data.fold={fold} of data.folds={folds}: need folds >= 2, 0 <= fold < folds"
        )
    match _automatic(records, folds, fold) if protocol == "auto" else protocol:
        case "test":
            splits = _test(records)
        case "zero_shot":
            splits = _zero_shot(records, folds, fold)
        case "official":
            splits = _official(records, folds, fold, seed)
        case "seen_classes":
            splits = _seen_classes(records, folds, fold, seed)
        case "query_gallery":
            splits = _query_gallery(records, folds, fold)
        case _:
            hint = did_you_mean(str(protocol), PROTOCOLS)
            raise InputError(f"no protocol {protocol!r}; there are {', '.join(PROTOCOLS)}.{hint}")
    unused = int((splits == "").sum())
    if unused:
        log.info("%d of %d images are in no part and not used", unused, len(records))
    return replace(records, splits=splits)


def _automatic(records: Records, folds: int, fold: int) -> str:
    """What "auto" stands for; it is logged, with the reason."""
    protocol, reason = "zero_shot", "the test classes are not in training"
    parts = set(np.unique(records.splits).tolist())
    if {"query", "gallery"} <= set(np.unique(records.roles).tolist()):
        protocol, reason = "query_gallery", "the data have queries and a gallery"
    elif parts & {"val", "test"}:
        protocol, reason = "official", "the data have a split of their own"
    else:
        try:
            _zero_shot(records, folds, fold)
        except InputError:
            few = f"{records.num_classes} classes are too few to test on others than train"
            protocol, reason = "seen_classes", few
    log.info("data.protocol=%s: %s", protocol, reason)
    return protocol


def split_records(
    records: Records,
    classes: Sequence[str] | None = None,
    protocol: str = "zero_shot",
    folds: int = 4,
    fold: int = 0,
    holdout: bool = True,
    seed: int = 0,
) -> Records:
    """The records of some classes with their splits.

    Args:
        records: all of a data set.
        classes: names of the classes that are used; None for all.
        protocol: see `assign_splits`, as for `folds`, `fold` and `seed`.
        folds: number of parts.
        fold: number of the part for validation.
        holdout: whether the validation part is held out; otherwise it is trained on too.
        seed: of the images that are drawn.

    Raises:
        InputError: there is no such class, or the records do not fit the protocol.

    >>> names = [str(number) for number in range(8)] * 2
    >>> found = split_records(Records.create(["x.jpg"] * 16, names), folds=2)
    >>> found.splits[:8].tolist()
    ['val', 'train', 'val', 'train', 'test', 'test', 'test', 'test']
    """
    chosen = records if classes is None else records.of_classes(classes)
    assigned = assign_splits(chosen, protocol, folds, fold, seed)
    return assigned if holdout else without_validation(assigned)


def without_validation(records: Records) -> Records:
    """Records with the validation part in the training part, for the fit after model selection."""
    return replace(records, splits=np.where(records.splits == "val", "train", records.splits))


def _zero_shot(records: Records, folds: int, fold: int) -> NDArray[np.str_]:
    training = _training_classes(records)
    part_of_class = np.full(records.num_classes, "test", dtype="<U5")
    part_of_class[training] = "train"
    part_of_class[training[fold::folds]] = "val"
    fewest = min(int((part_of_class == part).sum()) for part in ("train", "val", "test"))
    if fewest < 2:
        enough = folds > 2 and len(training) > 3 and records.num_classes - len(training) > 1
        fewer_folds = ", or data.folds=2" if enough else ""
        raise InputError(
            f"{records.num_classes} classes, {len(training)} of them to train and to validate on "
            f"in {folds} folds, leave less than 2 classes to train, validate or test on. Set "
            f"data.protocol=seen_classes{fewer_folds}; or data.protocol=test to measure a network "
            "that is trained already."
        )
    return part_of_class[records.labels]


def _training_classes(records: Records) -> NDArray[np.int64]:
    if _has_disjoint_classes(records):
        return np.unique(records.labels[records.ids("train")])
    return np.arange((records.num_classes + 1) // 2)


def _has_disjoint_classes(records: Records) -> bool:
    """Whether the data set's own splits are "train" and "test", without a class in both."""
    if set(np.unique(records.splits).tolist()) != {"train", "test"}:
        return False
    training, testing = (records.labels[records.ids(part)] for part in ("train", "test"))
    return not np.isin(testing, training).any()


def _official(records: Records, folds: int, fold: int, seed: int) -> NDArray[np.str_]:
    parts = set(np.unique(records.splits).tolist())
    if "train" not in parts and parts & {"val", "test"}:
        return _test(records)
    if "train" not in parts or not parts & {"val", "test"}:
        raise InputError(
            "this data set has no split of its own. Set data.protocol=zero_shot (unseen classes) "
            "or data.protocol=seen_classes."
        )
    if _has_disjoint_classes(records):
        return _zero_shot(records, folds, fold)
    splits = records.splits.astype("<U5")
    if "test" not in parts:
        splits[splits == "val"] = "test"
    if {"val", "test"} <= parts and fold != 0:
        raise InputError(
            f"data.fold={fold}: these data have a validation part of their own, which is fold 0, "
            "and no other. Set data.fold=0 (in a benchmark or a search: folds=[0])."
        )
    if not {"val", "test"} <= parts:
        training = records.ids("train")
        splits[_one_in(folds, fold, records.labels, training, seed)] = "val"
    return splits


def _test(records: Records) -> NDArray[np.str_]:
    splits = records.splits.astype("<U5")
    measured = next((part for part in ("test", "val") if part in splits), None)
    if measured is None:
        splits[:] = "test"
    splits[splits == measured] = "test"
    return splits


def _seen_classes(records: Records, folds: int, fold: int, seed: int) -> NDArray[np.str_]:
    everything = np.arange(len(records))
    splits = np.full(len(records), "train", dtype="<U5")
    splits[_one_in(5, 0, records.labels, everything, seed)] = "test"
    training = np.flatnonzero(splits == "train")
    splits[_one_in(folds, fold, records.labels, training, seed)] = "val"
    if len(set(np.unique(splits).tolist())) < 3:
        raise InputError("too few images a class to train, validate and test on them")
    return splits


def _query_gallery(records: Records, folds: int, fold: int) -> NDArray[np.str_]:
    splits = records.splits.astype("<U5")
    if (splits == "").all():
        splits[:] = "test"
    testing = splits == "test"
    roles = set(np.unique(records.roles[testing]).tolist())
    if not roles & {"query", "both"} or not roles & {"gallery", "both"} or not testing.any():
        raise InputError(
            "data.protocol=query_gallery needs records with split 'test' and roles 'query' and "
            "'gallery'. Give data=table with columns split and role, or another protocol."
        )
    classes = np.unique(records.labels[splits == "train"])
    if 0 < len(classes) < 2 * folds:
        raise InputError(
            f"{len(classes)} training classes are too few for {folds} folds of 2 or more"
        )
    validating = np.isin(records.labels, classes[fold::folds]) & (splits == "train")
    splits[validating] = "val"
    return splits


def _one_in(
    parts: int, part: int, labels: NDArray[np.int64], ids: NDArray[np.int64], seed: int
) -> NDArray[np.int64]:
    """One in `parts` of the ids of every class, after shuffling the class by the seed."""
    chosen = [np.array([], dtype=np.int64)]
    for label in np.unique(labels[ids]):
        own = ids[labels[ids] == label]
        chosen.append(np.random.default_rng((seed, int(label))).permutation(own)[part::parts])
    return np.sort(np.concatenate(chosen))
