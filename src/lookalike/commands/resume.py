"""`resume=` on the command line of `train`: it brings the run's own configuration along."""

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import hydra
from omegaconf import DictConfig, OmegaConf

from lookalike.commands.requeue import noted_folder
from lookalike.commands.verb import SEVERAL
from lookalike.config import config_folder
from lookalike.errors import InputError
from lookalike.inference.trust import check_trusted
from lookalike.reports.saved import FINISHED
from lookalike.training.identity import ABSENT, differences, without_effect
from lookalike.training.resume import find, is_resumable

NOT_ITS_OWN = ("hydra", "paths", "resume", "trust")  # a file doesn't decide where things are
BELOW_DATA = ("miner", "sampler", "transform")  # groups that lie at data.<group>
PARTS = (  # that a run is made of beside the network, the loss and the data
    "lookalike.data.datamodule.RetrievalData", "lookalike.data.mining.AllPairs",
    "lookalike.data.mining.AngularMiner", "lookalike.data.mining.BatchHardMiner",
    "lookalike.data.mining.DistanceWeightedMiner", "lookalike.data.mining.TripletMarginMiner",
    "lookalike.data.mining.UniformHistogramMiner", "lookalike.data.sampling.ClassBatches",
    "lookalike.data.sampling.TwoViewBatches", "lookalike.data.sampling.UniformBatches",
    "lookalike.data.tuples.InPairs", "lookalike.data.tuples.InTriplets",
    "lookalike.data.tuples.TupleBatches", "lookalike.data.tuples.draw_pairs",
    "lookalike.data.tuples.draw_triplets", "lookalike.evaluation.callback.stop_early",
    "lookalike.evaluation.plan.Evaluation", "lookalike.evaluation.recognition.Recognition",
    "lookalike.reports.answers.Answers",
    "lookalike.reports.confusion.Confusion", "lookalike.reports.curves.Curves",
    "lookalike.reports.embeddings.KeepEmbeddings", "lookalike.reports.loggers.open_wandb",
    "lookalike.reports.pairs.Pairs", "lookalike.retrieval.rerank.KReciprocal",
    "lookalike.retrieval.rerank.NoReranking", "lookalike.retrieval.rerank.QueryExpansion",
    "lookalike.training.averaging.AverageWeights", "lookalike.training.averaging.NoAveraging",
    "lookalike.training.distillation.Distillation", "lookalike.training.l2_sp.L2SP",
    "lookalike.training.learner.MetricLearner", "lookalike.training.schedules.constant",
    "lookalike.training.schedules.cosine", "lookalike.training.schedules.steps",
    "lookalike.training.progress_bar.EpochBar", "lookalike.training.wise_ft.WiseFT",
    "pytorch_lightning.Trainer", "pytorch_lightning.callbacks.RichProgressBar",
    "pytorch_lightning.loggers.TensorBoardLogger", "torch.optim.Adam", "torch.optim.AdamW",
    "torch.optim.RMSprop", "torch.optim.SGD",
)  # fmt: skip


def expanded(arguments: Sequence[str]) -> list[str]:
    """A command line on which the overrides of the resumed run take the place of `resume=`.

    Overrides beside it come later, and so count; `train` then checks what they change. An
    unfinished run goes on in its own folder. `resume.path=` is left as it is: the processes of
    distributed training get such a command line.

    Args:
        arguments: of `lookalike train`.

    Raises:
        InputError: there is nothing to resume, or several runs are asked for.
    """
    place = next((n for n, each in enumerate(arguments) if each.startswith("resume=")), None)
    if place is None:
        return list(arguments)
    where = _unquoted(arguments[place].partition("=")[2])
    before, after = list(arguments[:place]), list(arguments[place + 1 :])
    if where in ("", "null"):
        return [*before, "resume.path=null", *after]
    if SEVERAL & set(arguments):
        raise InputError("resume= goes on with one run: leave out -m.")
    given = [*before, *after]
    resumed = find(where, _outputs(given), _is_longer(given))
    file, saved = resumed.checkpoint.file, resumed.checkpoint.config
    first = saved.get("resume", {}).get("overrides", [])
    own = [each for each in first if _may_be_kept(each)]
    config = _compose([*_searched(given), *own])
    changed = differences(config, saved, without_effect(config))
    own = _not_replaced([*own, *_as_overrides(changed)], given)
    folder = resumed.folder()
    if folder is not None and not any(each.startswith("hydra.run.dir=") for each in given):
        after.append(f"hydra.run.dir={_written(str(folder))}")
    return [*before, *own, f"resume.path={_written(str(file))}", *after]


def after_requeue(arguments: Sequence[str]) -> list[str]:
    """A command line that goes on where the same command was cut off, in a requeued job of Slurm.

    Exits with 0 if its run is finished.

    Args:
        arguments: of `lookalike train`.
    """
    folder = noted_folder(_outputs(arguments))
    if folder is None:
        return list(arguments)
    if SEVERAL & set(arguments):
        return [*arguments, f"hydra.sweep.dir={_written(str(folder))}"]
    if (folder / FINISHED).is_file():
        print(f"{folder} is finished already")
        sys.exit(0)
    if not is_resumable(folder):
        return list(arguments)
    return [*(each for each in arguments if not each.startswith("resume=")), f"resume={folder}"]


def check_parts(config: DictConfig) -> None:
    """A configuration that came out of a checkpoint names only parts that are known or trusted.

    Raises:
        InputError: it names another.
    """
    resolved: Any = OmegaConf.to_container(config, resolve=True)
    resolved.pop("resume")
    check_trusted(resolved, config.trust, PARTS)


def _may_be_kept(override: str) -> bool:
    """Whether an override of a run is one that a file may bring along."""
    key = _key(override)
    return re.split(r"[./@]", key)[0] not in NOT_ITS_OWN and "hydra" not in key


def _not_replaced(own: Sequence[str], given: Sequence[str]) -> list[str]:
    """The overrides of a run without those that are given anew, or belong to another choice."""
    chosen = {_key(each): each for each in given if "=" in each or each.startswith("~")}
    groups = [key for key, each in chosen.items() if _is_group(key) and each not in own]
    places = [f"data.{group}" if group in BELOW_DATA else group for group in groups]
    return [
        each
        for each in own
        if _key(each) not in chosen
        and not _key(each).startswith(tuple(f"{place}." for place in places))
    ]


def _is_group(key: str) -> bool:
    return (config_folder() / key).is_dir()


def _compose(arguments: Sequence[str], only: Sequence[str] = ()) -> DictConfig:
    """The configuration of `train`, unresolved, from all overrides or from those of some keys."""
    overrides = [each for each in arguments if not only or _key(each).startswith(tuple(only))]
    with hydra.initialize_config_dir(str(config_folder()), version_base="1.3"):
        return hydra.compose("train", overrides)


def _outputs(arguments: Sequence[str]) -> Path:
    """The folder of all outputs."""
    return Path(_compose(arguments, only=("paths",)).paths.outputs)


def _searched(arguments: Sequence[str]) -> list[str]:
    """Where further configurations lie, as overrides."""
    found = [each for each in arguments if each.startswith("hydra.searchpath=")]
    for number, each in enumerate(arguments):
        name, equals, value = each.partition("=")
        if name in ("--config-dir", "-cd"):
            folder = Path(value if equals else arguments[number + 1]).absolute()
            found.append(f"hydra.searchpath=[{_written(f'file://{folder}')}]")
    return found


def _is_longer(arguments: Sequence[str]) -> bool:
    return any(_key(each) == "trainer.max_epochs" for each in arguments)


def _as_overrides(changed: dict[str, tuple[Any, Any]]) -> list[str]:
    """Overrides that restore the values of a saved run."""
    return [
        f"~{key}" if there == ABSENT else f"++{key}={_written(there)}"
        for key, (_, there) in changed.items()
    ]


def _key(override: str) -> str:
    """What an override is about, such as "data.fold" of "++data.fold=1"."""
    return override.lstrip("+~").partition("=")[0]


def _written(value: Any) -> str:
    """A value in Hydra's grammar."""
    if isinstance(value, list):
        return f"[{','.join(map(_written, value))}]"
    if isinstance(value, dict):
        return f"{{{','.join(f'{key}:{_written(each)}' for key, each in value.items())}}}"
    if isinstance(value, str):
        return "'" + re.sub(r"(\\*)('|$)", r"\1\1\\\2", value).removesuffix("\\") + "'"
    return "null" if value is None else str(value).lower()


def _unquoted(value: str) -> str:
    quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
    return value[1:-1] if quoted else value
