"""docs/pml.md against pytorch-metric-learning and conf/: what is here, and what isn't and why."""

import importlib
import inspect
import pkgutil
import re
import shlex
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest
import pytorch_metric_learning
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf

from conftest import CHECKOUT, TINY
from lookalike.config import check_arguments, config_folder
from lookalike.errors import InputError

Compose = Callable[..., DictConfig]
FOUND = {  # public classes of version 2.9.0, and those of them that a command uses
    "losses": (43, 37),
    "distances": (6, 4),
    "reducers": (10, 8),
    "regularizers": (6, 5),
    "miners": (11, 9),
    "samplers": (4, 1),
    "trainers": (6, 2),
    "testers": (4, 1),
    "utils": (20, 2),
}
GROUPS = {kind: kind[:-1] for kind in list(FOUND)[1:5]} | {"losses": "loss"}  # one YAML a class


class Row(NamedTuple):
    kind: str
    name: str
    overrides: tuple[str, ...]  # of `lookalike train`; none where the class is left out
    remark: str


def rows_of_the_table() -> Iterator[Row]:
    for section in re.split(r"^## ", (CHECKOUT / "docs" / "pml.md").read_text(), flags=re.M)[1:]:
        kind, *lines = section.splitlines()
        for line in lines:
            if line.startswith("| ") and not line.startswith("| class"):
                name, command, remark = (cell.strip() for cell in line.strip("|").split("|"))
                words = shlex.split(command.strip("`"))
                assert command == "—" or words[:2] == ["lookalike", "train"], line
                yield Row(kind, name, tuple(words[2:]), remark)


ROWS = list(rows_of_the_table())
USED = [row for row in ROWS if row.overrides]


def public_classes(kind: str) -> dict[str, type]:
    """Those a package of pytorch-metric-learning exports, or those in its modules if it has no
    list of exports (utils)."""
    package = importlib.import_module(f"pytorch_metric_learning.{kind}")
    modules = [package]
    if kind == "utils":
        names = [module.name for module in pkgutil.iter_modules(package.__path__)]
        modules = [importlib.import_module(f"{package.__name__}.{name}") for name in names]
    return {
        name: each
        for module in modules
        for name, each in inspect.getmembers(module, inspect.isclass)
        if each.__module__.startswith(package.__name__)
    }


def targets(node: Any) -> Iterator[Any]:
    """What a configuration makes, at any depth."""
    if isinstance(node, dict):
        if "_target_" in node:
            yield get_object(node["_target_"])
        node = list(node.values())
    if isinstance(node, list):
        for child in node:
            yield from targets(child)


def test_the_table_is_of_the_installed_version() -> None:
    version = pytorch_metric_learning.__version__
    assert f"pytorch-metric-learning {version}," in (CHECKOUT / "docs" / "pml.md").read_text()


@pytest.mark.parametrize("kind", FOUND)
def test_every_public_class_has_a_row_with_a_command_or_a_reason(kind: str) -> None:
    rows = [row for row in ROWS if row.kind == kind]
    assert sorted(row.name for row in rows) == sorted(public_classes(kind))
    assert (len(rows), sum(bool(row.overrides) for row in rows)) == FOUND[kind]
    assert all(row.remark for row in rows if not row.overrides)


@pytest.mark.parametrize("row", USED, ids=lambda row: row.name)
def test_a_command_makes_the_class_or_what_the_remark_names(row: Row, compose: Compose) -> None:
    config: Any = OmegaConf.to_container(compose("train", *row.overrides))
    del config["paths"]
    made = list(targets(config))
    own = public_classes(row.kind)[row.name]
    names = [each.__name__ for each in made if f"`{each.__name__}`" in row.remark]
    assert names or any(inspect.isclass(each) and issubclass(each, own) for each in made)


@pytest.mark.parametrize("kind", GROUPS)
def test_a_class_has_a_file_exactly_where_it_has_a_command(kind: str) -> None:
    every = public_classes(kind).values()
    made = {
        next((own.__name__ for own in each.__mro__ if own in every), None)
        for file in (config_folder() / GROUPS[kind]).glob("*.yaml")
        for each in targets(OmegaConf.to_container(OmegaConf.load(file)))
    }
    elsewhere = {"MultipleLosses"}  # WeightedSum's work
    used = {row.name for row in USED if row.kind == kind}
    ours = {None, "BaseDistance"}  # what it lacks, and its base of a distance that it lacks
    assert made - ours == used - elsewhere


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:__array_wrap__")  # large-margin softmax and NumPy 2
@pytest.mark.parametrize(
    "overrides", sorted({row.overrides for row in USED}), ids=lambda words: " ".join(words)
)
def test_every_command_runs(
    overrides: tuple[str, ...], cli: Callable[..., Any], class_folders: Any
) -> None:
    given = {word.partition("=")[0] for word in overrides}
    few = [
        word
        for word in (*TINY, "debug=fast", "data=folder", f"data.root={class_folders}")
        if "images_per_class" not in word and word.partition("=")[0] not in given
    ]
    assert 0 <= cli("train", *few, *overrides) <= 1


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["loss=softmax_triplet", "distance=cosine"], "WeightedSum takes no 'distance'"),
        (["loss=cross_batch_memory", "reducer=mean"], "CrossBatchMemory takes no 'reducer'"),
        (["loss=centroid_triplet", "regularizer=lp"], "takes no 'embedding_regularizer'"),
        (["loss=triplet", "regularizer=regular_face"], "Did you mean embedding_regularizer"),
        (["loss=triplet", "+loss.marign=1"], "takes no 'marign'.* Did you mean margin"),
        (["loss=triplet", "distance=snr", "reducer=sum", "regularizer=lp"], None),
        (["loss=proxy_nca", "distance=snr", "reducer=sum", "regularizer=regular_face"], None),
        (["logger=wandb"], None),
    ],
)
def test_a_loss_that_takes_no_distance_reducer_or_regularizer_says_so(
    overrides: list[str], message: str | None, compose: Compose
) -> None:
    config = compose("train", *overrides, "data.num_classes=3")
    if message is None:
        check_arguments(config)
    else:
        with pytest.raises(InputError, match=message):
            check_arguments(config)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["loss=fast_ap", "distance=cosine"], "FastAPLoss requires the distance metric to be Lp"),
        (["loss=pnp", "miner=multi_similarity"], "Set miner=none"),
        (["loss=manifold", "loss.K=4", "miner=multi_similarity"], "Set miner=none"),
        (["loss=vicreg", "miner=multi_similarity"], "Set miner=none"),
        (["loss=vicreg", "sampler=classes"], "Set sampler=views"),
        (["loss=margin", "reducer=per_anchor"], "another reducer than per_anchor"),
        (["loss=contrastive", "reducer=divisor"], "loss=margin and loss=proxy_anchor"),
    ],
)
def test_what_a_loss_refuses_is_said_with_the_next_command(
    overrides: list[str],
    message: str,
    cli: Callable[..., Any],
    tiny: tuple[str, ...],
    capsys: pytest.CaptureFixture[str],
) -> None:
    few = [word for word in tiny if "images_per_class" not in word]
    with pytest.raises(SystemExit):
        cli("train", *few, "evaluation.before_training=false", *overrides)
    assert message in capsys.readouterr().err
