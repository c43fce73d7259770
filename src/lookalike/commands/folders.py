"""The folder of a run: one process has it for itself, and a start that fails leaves none."""

import atexit
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

from lookalike.config import hydra_running
from lookalike.errors import InputError
from lookalike.files import new_folder

LOCK = ".lock"
# what is written before any work is done; what a log holds was on the terminal, too
OF_A_START = (LOCK, ".hydra", "hparams.yaml", "multirun.yaml", "split.csv")

_found: set[Path] = set()  # the folder of this process's run, if it was there before


class OwnFolder(Callback):
    """Hydra's callback that makes the folder of a run or a sweep, where its name has the time.

    Of those that start in one second each gets its own, by a number behind the name. A folder with
    another name may be there: `benchmark` and `tune` go on in theirs, and so may a user.
    """

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Hydra calls it before it writes anything."""
        _found.clear()
        try:
            with hydra_running(config):
                folder = Path(config.hydra.run.dir)
        except OmegaConfBaseException:  # Hydra reads it next, and says so
            return
        if _has_the_time(config.hydra.run):
            _set(config, "run", new_folder(folder))
        elif folder.exists():
            _found.add(folder.resolve())

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Hydra calls it before the first job."""
        _found.clear()
        if not _has_the_time(config.hydra.sweep):
            return
        folder = new_folder(Path(config.hydra.sweep.dir))
        _set(config, "sweep", folder)
        with read_write(config.hydra):  # every job composes its configuration from these
            quoted = str(folder).replace("\\", "\\\\").replace("'", "\\'")
            config.hydra.overrides.hydra.append(f"hydra.sweep.dir='{quoted}'")
        atexit.register(remove_start, folder)


@contextmanager
def gone_if_not_started(folder: Path) -> Iterator[None]:
    """Removes the folder of a run that fails before it has written anything of its own."""
    try:
        yield
    except BaseException:  # Ctrl-C and signals, too
        if folder.resolve() not in _found:
            remove_start(folder)
        raise


def remove_start(folder: Path) -> None:
    """Remove a folder where nothing lies but what is written before the work."""
    with suppress(OSError):
        inside = [path for path in folder.iterdir() if path.suffix != ".log"]
        if all(path.name in OF_A_START for path in inside):
            shutil.rmtree(folder)


@contextmanager
def used_alone(folder: Path) -> Iterator[None]:
    """Holds a run's folder, so that no other process trains into it.

    Raises:
        InputError: another process holds it.
    """
    from filelock import FileLock, Timeout  # 0.1 s that only training needs

    try:
        with FileLock(folder / LOCK).acquire(timeout=0):
            yield
    except Timeout:
        raise InputError(
            f"another process is training in {folder}. Choose another hydra.run.dir."
        ) from None


def _has_the_time(place: DictConfig) -> bool:
    """Whether a directory's template names it after the time."""
    template: Any = OmegaConf.to_container(place, resolve=False)
    return "${now:" in str(template["dir"])


def _set(config: DictConfig, mode: str, folder: Path) -> None:
    with read_write(config.hydra), open_dict(config.hydra):
        config.hydra[mode].dir = str(folder)
