"""lookalike index build|add|remove|update|info|check|tune: an index that lives in a folder."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from lookalike.commands.networks import check_one_network, content_of
from lookalike.commands.verb import run_verb
from lookalike.config import as_list, build
from lookalike.errors import InputError, did_you_mean
from lookalike.inference.embedding_items import Reading
from lookalike.inference.index import Index
from lookalike.inference.index_tuning import tune_index
from lookalike.reports.index_curve import draw_curve, print_curve


def index(config: DictConfig) -> Any:
    """Does what `action` says; returns what that counted."""
    if config.action not in ACTIONS:
        raise InputError(
            f"lookalike index {config.action or ''} is not known; it is one of "
            f"{', '.join(ACTIONS)}.{did_you_mean(str(config.action), ACTIONS)}"
        )
    return ACTIONS[config.action](config)


def _build(config: DictConfig) -> int:
    if config.out is None:
        raise InputError("give the new folder: out=photos.index")
    check_one_network(config)
    made = Index.build(
        _images(config), str(config.out), content_of(config), config.device,
        as_list(config.trust), build(config.embedding), _reading(config),
        config.index or "auto", config.lists, config.wait,
    )  # fmt: skip
    _tell(made)
    folder = config.out
    print(f"Ask it: lookalike search index={folder} images=photo.jpg")
    return len(made)


def _add(config: DictConfig) -> dict[str, int]:
    opened = _opened(config)
    return _counted(opened, opened.add(_images(config), config.wait))


def _remove(config: DictConfig) -> dict[str, int]:
    opened = _opened(config)
    return _counted(opened, opened.remove(config.where, as_list(config.ids), config.wait))


def _update(config: DictConfig) -> dict[str, int]:
    opened = _opened(config)
    return _counted(opened, opened.update(config.wait))


def _info(config: DictConfig) -> dict[str, Any]:
    opened = _opened(config)
    for name, value in opened.info().items():
        print(f"{name:<12}{', '.join(map(str, value)) if isinstance(value, list) else value}")
    return opened.info()


def _check(config: DictConfig) -> int:
    opened = _opened(config)
    opened.check()
    missing = opened.missing()
    print(f"{opened.store.folder} is as it was written: {len(opened)} images.")
    if missing:
        raise InputError(
            f"{len(missing)} of {len(opened)} image files are not there, such as {missing[0]}. If "
            "they have moved, update the index with root= their folder; if they are gone, update "
            "it, which takes them out."
        )
    return len(opened)


def _tune(config: DictConfig) -> int:
    opened = _opened(config)
    curve = tune_index(opened, config.recall, config.k, config.kind, config.lists, config.wait)
    print_curve(curve)
    draw_curve(curve, Path(config.paths.run) / "tuning.png")
    print(Path(config.paths.run) / "tuning.png")
    return curve.chosen


ACTIONS: dict[str, Callable[[DictConfig], Any]] = {
    "build": _build,
    "add": _add,
    "remove": _remove,
    "update": _update,
    "info": _info,
    "check": _check,
    "tune": _tune,
}


def _opened(config: DictConfig) -> Index:
    if config.index is None or config.out is not None:
        raise InputError(f"give the folder: lookalike index {config.action} index=photos.index")
    opened = Index.load(
        str(config.index),
        config.device,
        config.root,
        as_list(config.trust),
        build(config.embedding),
    )
    opened.reading = _reading(config)
    return opened


def _images(config: DictConfig) -> list[str]:
    return [str(each) for each in as_list(config.images)]


def _reading(config: DictConfig) -> Reading:
    return Reading(config.batch_size, config.num_workers)


def _counted(opened: Index, counts: dict[str, int]) -> dict[str, int]:
    print(", ".join(f"{count} {name}" for name, count in counts.items()))
    _tell(opened)
    return counts


def _tell(opened: Index) -> None:
    about = opened.info()
    print(
        f"{about['path']}: {about['images']} images of {about['classes']} classes, "
        f"{about['dimensions']} dimensions, by {about['network']}, {about['structure']['kind']}"
    )


if __name__ == "__main__":
    if len(sys.argv) > 1 and "=" not in sys.argv[1] and not sys.argv[1].startswith("-"):
        sys.argv[1] = f"action={sys.argv[1]}"
    run_verb("index", index)
