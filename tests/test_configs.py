"""Every YAML of every group composes, builds and runs one step."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig, OmegaConf

from lookalike.config import check_arguments, config_folder
from lookalike.training.experiment import Experiment

Compose = Callable[..., DictConfig]

# A new file must be counted here, so that none is passed over.
FOUND = {
    "averaging": 2,
    "backbone": 21,
    "benchmark": 11,
    "callbacks": 4,
    "data": 21,
    "debug": 2,
    "distance": 6,
    "ensemble": 2,
    "evaluation": 8,
    "experiment": 16,
    "freeze": 8,
    "head": 8,
    "hydra": 1,
    "logger": 4,
    "lora": 3,
    "loss": 50,
    "miner": 12,
    "model": 4,
    "optimizer": 4,
    "paths": 1,
    "penalty": 3,
    "pooling": 3,
    "recipe": 2,
    "reducer": 9,
    "regularizer": 6,
    "report": 6,
    "rerank": 4,
    "sampler": 6,
    "scheduler": 3,
    "store": 2,
    "sweep": 5,
    "trainer": 5,
    "transform": 5,
    "tune": 11,
}
FILES = sorted(
    file
    for file in config_folder().glob("*/*.yaml")
    if file.parent.name != "base"  # shared parts, no choices
)
CHOICES = [f"{file.parent.name}={file.stem}" for file in FILES]
COMPANIONS = {  # what a choice needs beside it
    "backbone=timm": ["backbone.name=mobilenetv3_small_050", "backbone.image_size=32"],
    "backbone=own": [
        "backbone.network._target_=torch.nn.Conv2d",
        "+backbone.network.in_channels=3",
        "+backbone.network.out_channels=4",
        "+backbone.network.kernel_size=3",
    ],
    "backbone=torchvision": ["backbone.name=squeezenet1_1"],
    "backbone=dinov2": ["backbone.image_size=28"],
    "distance=": ["loss=triplet"],
    "freeze=below": ["freeze.below=1"],
    "freeze=blocks": ["freeze.below=1"],
    "lora=linear": ["backbone=timm", "backbone.name=test_vit", "backbone.image_size=32"],
    "lora=attention": ["backbone=timm", "backbone.name=test_vit", "backbone.image_size=32"],
    "freeze=thaw": ["freeze.thaw.from_layer=0"],
    "loss=cross_batch_memory": ["loss.memory_size=16"],
    "miner=in_pairs": ["sampler=pairs"],
    "miner=in_triplets": ["sampler=triplets", "data.batch_size=9"],
    "loss=manifold": ["loss.K=4"],
    "reducer=": ["loss=contrastive"],
    "reducer=class_weighted": ["loss=contrastive", "loss.reducer.weights=[1,2,1,2,1,2]"],
    "reducer=divisor": ["loss=margin"],
    "regularizer=": ["loss=norm_softmax"],
    "sampler=pairs": ["miner=in_pairs"],
    "sampler=triplets": ["miner=in_triplets", "data.batch_size=9"],
    "regularizer=sparse_centers": ["loss=soft_triple"],
    "trainer=": ["trainer.max_epochs=1"],
}
SLOW = (
    "backbone=resnet34", "backbone=resnet50", "backbone=resnet101", "backbone=googlenet",
    "backbone=vgg16", "backbone=inception_v3",
    "backbone=clip_base", "backbone=convnext_tiny", "backbone=dinov2_base", "backbone=dinov2_small",
    "backbone=dinov3_base", "backbone=dinov3_small", "backbone=siglip2_base", "backbone=vit_small",
    "logger=wandb",
)  # fmt: skip
ELSEWHERE = {
    "benchmark=": "test_benchmark.py",
    "tune=": "test_tuning.py",
    "data=": "test_readers_by_config and test_real_data_by_config",
    "experiment=": "test_every_scalar_of_every_experiment_survives",
    "model=": "test_classify.py",
    "hydra=": "every command line composes it",
    "paths=": "every command line composes it",
    "recipe=": "data=drawn brings it",
    "report=": "test_reports.py",
    "store=": "test_database_index.py",
    "sweep=": "test_every_sweep_composes",
    "trainer=ddp": "test_distributed.py",
}


def test_every_file_is_counted() -> None:
    assert Counter(file.parent.name for file in FILES) == FOUND


def marked(choice: str) -> object:
    marks = [pytest.mark.slow] if choice in SLOW else []
    marks += [pytest.mark.gpu] if choice == "trainer=gpu" else []
    return pytest.param(choice, marks=marks)


@pytest.mark.filterwarnings("ignore:__array_wrap__")  # PML's large-margin softmax and NumPy 2
@pytest.mark.parametrize(
    "choice", [marked(choice) for choice in CHOICES if not choice.startswith(tuple(ELSEWHERE))]
)
def test_one_step(
    choice: str,
    compose: Compose,
    tiny: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    keys = [key for key in COMPANIONS if choice.startswith(key)]
    companions = COMPANIONS[max(keys, key=len)] if keys else []
    size = ["backbone.image_size=75"] if choice == "backbone=inception_v3" else []
    sized = any("image_size" in each for each in companions)
    if choice.startswith("backbone=") and not size and not sized:
        size = ["backbone.image_size=32"]
    fixed = any(o.startswith("sampler=") and o != "sampler=classes" for o in (choice, *companions))
    if fixed or choice in ("loss=vicreg", "loss=self_supervised"):
        tiny = tuple(override for override in tiny if "images_per_class" not in override)
    config = compose("train", *tiny, choice, *companions, *size, "trainer.limit_train_batches=1")
    experiment = Experiment(config, tmp_path)
    checkpoint = experiment.fit()
    assert checkpoint.file.is_file()
    assert checkpoint.epochs == 1
    assert experiment.trainer.global_step == 1
    assert all(torch.isfinite(value).all() for value in checkpoint.state.values())


@pytest.mark.parametrize("choice", ["folder", "furniture", "table", "drawn"])
def test_readers_by_config(
    choice: str, compose: Compose, class_folders: Path, tiny: tuple[str, ...], tmp_path: Path
) -> None:
    table = tmp_path / "photos.csv"
    images = sorted(class_folders.glob("*/*.png"))
    table.write_text("path,label\n" + "".join(f"{file},{file.parent.name}\n" for file in images))
    places = {
        "folder": [f"data.root={class_folders}"],
        "furniture": [f"data.root={class_folders}"],
        "table": ["data.root=null", f"data.source.file={table}"],
        "drawn": [
            f"data.root={tmp_path}", "data.source.species=16",
            "data.source.images_per_species=3", "data.source.size=24",
        ],
    }  # fmt: skip
    others = [override for override in tiny if not override.startswith("data=")]
    others = [override for override in others if not override.startswith("data.root=")]
    config = compose("train", *others, f"data={choice}", *places[choice])
    experiment = Experiment(config, tmp_path)
    assert experiment.data.counts()["test_classes"] == 8
    assert experiment.fit().file.is_file()


@pytest.mark.real
@pytest.mark.parametrize(
    ("choice", "more", "classes"),
    [
        ("flowers", [], (38, 13, 51)),
        ("flowers", ["data.protocol=official"], (102, 102, 102)),
        pytest.param("dogs", [], (45, 15, 60), marks=pytest.mark.slow),
        ("furniture", ["data.protocol=official"], (7, 7, 7)),
        pytest.param("furniture", ["data.folds=2"], (2, 2, 3), marks=pytest.mark.slow),
        pytest.param("flowers_cameras", [], (38, 13, 51), marks=pytest.mark.slow),  # 8189 copies
    ],
)
def test_real_data_by_config(
    choice: str,
    more: list[str],
    classes: tuple[int, int, int],
    compose: Compose,
    real_data: Path,
    tiny: tuple[str, ...],
    tmp_path: Path,
) -> None:
    others = [o for o in tiny if not o.startswith(("data=", "data.root="))]
    config = compose(
        "train", *others, f"data={choice}", f"paths.data={real_data}", *more,
        "trainer.limit_train_batches=1", "trainer.limit_val_batches=0.1",
    )  # fmt: skip
    experiment = Experiment(config, tmp_path)
    counts = experiment.data.counts()
    assert tuple(counts[f"{part}_classes"] for part in ("train", "val", "test")) == classes
    assert experiment.fit().file.is_file()


EXPERIMENTS = [file for file in FILES if file.parent.name == "experiment" and file.stem != "none"]


def scalars(node: object, above: str = "") -> dict[str, object]:
    if isinstance(node, dict):
        return {
            key: value
            for name, child in node.items()
            for key, value in scalars(child, f"{above}{name}.").items()
        }
    return {above.removesuffix("."): node}


@pytest.mark.parametrize("file", EXPERIMENTS, ids=lambda file: file.stem)
def test_every_scalar_of_every_experiment_survives(file: Path, compose: Compose) -> None:
    raw = OmegaConf.to_container(OmegaConf.load(file))
    raw.pop("defaults", None)
    config = compose("train", f"experiment={file.stem}")
    check_arguments(config)
    given = scalars(raw)
    assert given or file.stem == "reid_softmax_triplet"  # another loss than reid_triplet's
    for key, value in given.items():
        parent, _, name = key.rpartition(".")
        node = OmegaConf.select(config, parent) if parent else config
        assert OmegaConf.to_container(node)[name] == value, key


def test_one_yaml_is_one_constructor_call_with_a_first_line_that_says_what_it_is() -> None:
    for file in FILES:
        lines = [line for line in file.read_text().splitlines() if "@package" not in line]
        if file.parent.name not in ("paths", "hydra"):
            assert lines[0].startswith("# "), file


SWEEPS = [file for file in FILES if file.parent.name == "sweep" and file.stem != "none"]


@pytest.mark.parametrize("file", SWEEPS, ids=lambda file: file.stem)
def test_every_sweep_composes(file: Path, compose: Compose) -> None:
    """The first and the last value of every parameter, together."""
    params = OmegaConf.load(file).hydra.sweeper.params
    assert params
    for end in (0, -1):
        chosen = [f"{key}={values.split(',')[end]}" for key, values in params.items()]
        compose("train", f"sweep={file.stem}", *chosen)


@pytest.mark.parametrize(
    "overrides",
    [
        "loss=proxy_anchor head=bottleneck pooling=gem optimizer=sgd scheduler=step",
        "scheduler=constant",
        "transform=none",
        "transform=four_views",
        "optimizer=rmsprop transform=rotate_flip",
        "experiment=furniture_transfer transform=none",
    ],
)
def test_the_default_data_take_every_choice(overrides: str, compose: Compose) -> None:
    """What a data set wants otherwise names no key that only some choices of a group have."""
    config = compose("train", *overrides.split())
    check_arguments(config)


def test_what_the_default_data_want_otherwise(compose: Compose) -> None:
    drawn, flowers = (compose("train", f"data={name}") for name in ("drawn", "flowers"))
    assert (drawn.scheduler.warmup, flowers.scheduler.warmup) == (0.15, 0.05)
    views = [config.data.transform.train.min_scale for config in (drawn, flowers)]
    assert views == [0.5, 0.25]
    assert compose("train", "scheduler.warmup=0.3").scheduler.warmup == 0.3
