"""Where a checkpoint's data lie: its paths are absolute, so that it can be used from any folder."""

import os
from collections.abc import Mapping
from typing import Any

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
