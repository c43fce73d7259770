"""lookalike index build|add|remove|update|info|check|tune: an index that lives in a folder."""

import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from lookalike.command_line import command
from lookalike.commands.networks import check_one_network, network_of_index
from lookalike.commands.verb import run_verb
from lookalike.config import as_list, build, check_arguments
from lookalike.device import find_device
from lookalike.errors import InputError, did_you_mean
from lookalike.inference.database_index import DatabaseIndex, in_database, into_database
from lookalike.inference.embedding_items import Reading
from lookalike.inference.index import Index
from lookalike.inference.index_building import Into, check_in_folder, into_folder
from lookalike.inference.index_building import build as build_index
from lookalike.inference.index_sources import EmbeddedParts, ImagesToEmbed, Source
from lookalike.inference.index_tuning import tune_index
from lookalike.inference.items import places_of
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
    into = _into(config)
    build_index(
        Path(config.out), _source(config), network_of_index(config), as_list(config.trust), into,
        config.wait,
    )  # fmt: skip
    with closing(_open(config, config.out)) as made:
        _tell(made)
        folder = config.out
        print("Ask it:", command("search", f"index={folder}", "images=photo.jpg", "k=5"))
        return len(made)


def _source(config: DictConfig) -> Source:
    if (config.images is None) == (config.vectors is None):
        raise InputError(
            "give images=<folder, table, glob>, or vectors=<what lookalike embed wrote>"
        )
    if config.vectors is not None:
        return EmbeddedParts(Path(config.vectors))
    device, engine = find_device(config.device), build(config.embedding)
    return ImagesToEmbed(places_of(_images(config)), device, engine, _reading(config))


def _into(config: DictConfig) -> Into:
    """Into the folder, or into a database that store= names."""
    if not config.store:
        return into_folder(config.index or "auto", config.lists)
    check_arguments(config.store)
    store: Any = OmegaConf.to_container(config.store, resolve=True)
    if not store.get("uri"):
        raise InputError("give the place of the database: store.uri=http://... or a local path")
    if "://" not in store["uri"]:
        store["uri"] = str(Path(store["uri"]).absolute())
    return into_database(store, as_list(config.trust))


def _add(config: DictConfig) -> dict[str, int]:
    with closing(_opened(config)) as opened:
        return _counted(opened, opened.add(_images(config), config.wait))


def _remove(config: DictConfig) -> dict[str, int]:
    with closing(_opened(config)) as opened:
        return _counted(opened, opened.remove(config.where, as_list(config.ids), config.wait))


def _update(config: DictConfig) -> dict[str, int]:
    opened = _in_folder(config)
    return _counted(opened, opened.update(config.wait))


def _info(config: DictConfig) -> dict[str, Any]:
    with closing(_opened(config)) as opened:
        about = opened.info()
    for name, value in about.items():
        print(f"{name:<12}{', '.join(map(str, value)) if isinstance(value, list) else value}")
    return about


def _check(config: DictConfig) -> int:
    opened = _in_folder(config)
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
    store = _in_folder(config).store
    curve = tune_index(store, config.recall, config.k, config.kind, config.lists, config.wait)
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


def _opened(config: DictConfig) -> Index | DatabaseIndex:
    if config.index is None or config.out is not None:
        raise InputError(f"give the folder: lookalike index {config.action} index=photos.index")
    return _open(config, config.index)


def _in_folder(config: DictConfig) -> Index:
    if config.index is not None:
        check_in_folder(config.index)
    opened = _opened(config)
    assert isinstance(opened, Index)
    return opened


def _open(config: DictConfig, folder: str) -> Index | DatabaseIndex:
    trust, engine = as_list(config.trust), build(config.embedding)
    opened = (
        DatabaseIndex.load(folder, config.device, trust, engine)
        if in_database(folder)
        else Index.load(folder, config.device, config.root, trust, engine)
    )
    opened.reading = _reading(config)
    return opened


def _images(config: DictConfig) -> list[str]:
    return [str(each) for each in as_list(config.images)]


def _reading(config: DictConfig) -> Reading:
    return Reading(config.batch_size, config.num_workers)


def _counted(opened: Index | DatabaseIndex, counts: dict[str, int]) -> dict[str, int]:
    print(", ".join(f"{count} {name}" for name, count in counts.items()))
    _tell(opened)
    return counts


def _tell(opened: Index | DatabaseIndex) -> None:
    about = opened.info()
    classes = f" of {about['classes']} classes" if "classes" in about else ""
    place = about["store"] if "store" in about else about["structure"]["kind"]
    print(
        f"{about['path']}: {about['images']} images{classes}, {about['dimensions']} dimensions, by "
        f"{about['network']}, {place}"
    )


if __name__ == "__main__":
    if len(sys.argv) > 1 and "=" not in sys.argv[1] and not sys.argv[1].startswith("-"):
        sys.argv[1] = f"action={sys.argv[1]}"
    run_verb("index", index)
