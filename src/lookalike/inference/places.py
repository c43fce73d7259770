"""Where a checkpoint's data lie: its paths are absolute, so that it can be used from any folder.

Those of a shared network begin with the folder of all data sets or the cache, wherever these are.
"""

import os
from collections.abc import Mapping
from typing import Any

DATA, CACHE = "<data>", "<cache>"  # what stands for paths.data and paths.cache
PATHS = ("root", "file", "folder", "cache_folder", "exclude")  # keys of paths


def with_absolute_paths(data: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a configuration that says which data, with absolute paths.

    Args:
        data: as plain data; relative paths are relative to the folder of the command.
    """
    return {key: _absolute(key, value) for key, value in data.items()}


def moved(data: Mapping[str, Any], root: str) -> dict[str, Any]:
    """The same data in another folder.

    Args:
        data: as a checkpoint has it.
        root: where its images are now.
    """
    source = {**data["source"]}
    if source.get("root") == data["root"]:
        source["root"] = root
    if data["root"] and "file" in source:
        source["file"] = _beneath(source["file"], data["root"], root)
    return {**data, "root": root, "source": source}


def _beneath(path: str, old: str, new: str) -> str:
    """A path below the old root, below the new one; another path as it is."""
    below = os.path.relpath(path, old)
    return path if below.startswith("..") else os.path.normpath(os.path.join(new, below))


def _absolute(key: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        return with_absolute_paths(value)
    if isinstance(value, list):
        return [_absolute(key, each) for each in value]
    return os.path.abspath(value) if key in PATHS and isinstance(value, str) and value else value


def portable(data: Mapping[str, Any], paths: Mapping[str, str]) -> dict[str, Any]:
    """The part of a configuration that says which data, without the paths of this machine.

    Args:
        data: as a checkpoint has it, with absolute paths.
        paths: `data` and `cache` of the run.
    """
    known = {os.path.abspath(paths["data"]): DATA, os.path.abspath(paths["cache"]): CACHE}
    if data.get("root"):
        known.setdefault(data["root"], f"{DATA}/{os.path.basename(data['root'])}")
    return {**_portable(data, known), "cache": "none"}


def without_folders(node: Any) -> Any:
    """Plain data with the names of files in place of absolute paths.

    >>> without_folders({"weights": "/home/me/resnet.pth"})
    {'weights': 'resnet.pth'}
    """
    return _portable(node, {})


def here(node: Any) -> Any:
    """The opposite of `portable`, with the places of this machine."""
    if isinstance(node, Mapping):
        return {key: here(value) for key, value in node.items()}
    if isinstance(node, list):
        return [here(each) for each in node]
    if not isinstance(node, str) or not node.startswith((DATA, CACHE)):
        return node
    own_cache = os.path.join(os.path.expanduser("~"), ".cache", "lookalike")
    places = {
        DATA: os.environ.get("LOOKALIKE_DATA", "data"),
        CACHE: os.environ.get("LOOKALIKE_CACHE", own_cache),
    }
    start, slash, rest = node.partition("/")
    return os.path.abspath(places.get(start, start) + slash + rest)


def _portable(node: Any, known: Mapping[str, str]) -> Any:
    if isinstance(node, Mapping):
        return {key: _portable(value, known) for key, value in node.items()}
    if isinstance(node, list):
        return [_portable(each, known) for each in node]
    if not isinstance(node, str) or not os.path.isabs(node):
        return node
    for folder, sign in known.items():
        below = os.path.relpath(node, folder)
        if not below.startswith(".."):
            return sign if below == "." else f"{sign}/{below}"
    name = os.path.basename(node)
    return f"{DATA}/{name}" if known else name
