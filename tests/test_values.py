"""A setting of the wrong kind, or out of range, is refused with one line before any work."""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from omegaconf import OmegaConf

from conftest import Compose
from lookalike.config import build
from lookalike.errors import InputError
from lookalike.values import RANGES, check_kinds, check_ranges, fits, in_words, kinds_of

Cli = Callable[..., Any]


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        (1, int, True), (True, int, False), (1.5, int, False), ("1", int, False),
        (1, float, True), (False, float, False), (None, float, False), ("two", float, False),
        (0, bool, False), (True, bool, True), (1, str, False), ("a", str | None, True),
        (None, int | None, True), ([1], int | Sequence[int], True), ([1, "a"], list[int], False),
        ("last", Literal["last", "none"], True), ("first", Literal["last", "none"], False),
        (1, Any, True), ({"a": 1}, Mapping[str, int], True), ({"a": "b"}, dict[str, int], False),
        ({"_target_": "x"}, Path, True), (3, Callable[[int], int], False), ("a/b", Path, True),
        ("${a}", int, True), ("???", int, True), ([1, 2], int, False), ({"a": 1}, int, False),
    ],
)  # fmt: skip
def test_what_fits_an_annotation(value: Any, kind: Any, expected: bool) -> None:
    assert fits(value, kind) is expected


def test_annotations_in_words() -> None:
    assert in_words(int | float | None) == "a whole number or a number or null"
    assert in_words(Literal["a", "b"]) == "a or b"
    assert in_words(Sequence[int]) == "a list, each a whole number"


class Base:
    def __init__(self, size: int, margin=0.5, on=False, name="x", ids=()) -> None:
        pass


class Part(Base):
    def __init__(self, depth: int | None = None, wrong: int = 0.5, **more: Any) -> None:  # type: ignore[assignment]
        super().__init__(**more)


def test_kinds_come_through_bases_and_from_defaults() -> None:
    assert kinds_of(Part) == {
        "depth": int | None, "wrong": Any, "size": int, "margin": float, "on": bool, "name": str,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("trainer.max_epochs=two", "trainer.max_epochs=two: need a whole number from 0 "),
        ("trainer.max_epochs=null", "trainer.max_epochs=null: need a whole number"),
        ("trainer.max_epochs=-1", "trainer.max_epochs=-1: need"),
        ("trainer.limit_train_batches=-1", "limit_train_batches=-1: need"),
        ("trainer.limit_val_batches=two", "limit_val_batches=two: need"),
        ("threads=100000", "threads=100000: need a whole number from 1 to 1024 or null"),
        ("threads=0", "threads=0: need"),
        ("seed=-1", "seed=-1: need a whole number from 0 to 4294967295"),
        ("seed=two", "seed=two: need"),
        ("seed=4294967296", "seed=4294967296: need"),
        ("data.batch_size=0", "data.batch_size=0: need a whole number from 1 "),
        ("data.eval_batch_size=1.5", "data.eval_batch_size=1.5: need"),
        ("data.num_workers=-1", "data.num_workers=-1: need"),
        ("learning_rate.head=-0.1", "learning_rate.head=-0.1: need a number from 0 "),
        ("learning_rate.backbone=null", "learning_rate.backbone=null: need"),
        ("learning_rate.loss=.nan", "learning_rate.loss"),
        ("backbone.image_size=0", "image_size=0: need"),
        ("crop_size=100000", "crop_size=100000: need a whole number"),
        ("data.source.size=-4", "data.source.size=-4: need"),
        ("warmup=2", "warmup=2: need a number from 0 to 1"),
        ("resume.path=[a]", "resume.path=['a']: need text or null."),
    ],
)
def test_a_value_out_of_range(wrong: str, said: str, compose: Compose) -> None:
    with pytest.raises(InputError) as error:
        check_ranges(compose("train", wrong.replace(".nan", "nan")))
    assert said in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("evaluation.clustering=two", "evaluation.clustering=two: need true or false."),
        ("evaluation.k=3", "evaluation.k=3: need a list, each a whole number."),
        ("loss.alpha=[1]", "loss.alpha=[1]: need a number."),
        ("trainer.deterministic=7", "trainer.deterministic=7: need true or false or warn or null."),
        ("data.folds=null", "data.folds=null: need a whole number."),
        ("embedding.engine=fast", "embedding.engine=fast: need auto or torch"),
    ],
)
def test_a_value_of_another_kind(wrong: str, said: str, compose: Compose) -> None:
    with pytest.raises(InputError) as error:
        check_kinds(compose("train", wrong))
    assert said in str(error.value)


def test_build_looks_before_it_builds(compose: Compose) -> None:
    with pytest.raises(InputError, match=r"evaluation\.minp=7: need true or false\."):
        build(compose("train", "evaluation.minp=7").evaluation)


def test_what_a_value_refers_to_is_named(compose: Compose) -> None:
    config = compose("train", "embedding_size=128")
    config.data.view_seed = "${seed}"
    config.seed = "two"
    with pytest.raises(InputError, match=r"^seed=two: need"):
        check_ranges(config)


@pytest.mark.parametrize(
    ("verb", "wrong"),
    [
        ("search", "batch_size=0"), ("search", "threshold=two"), ("search", "num_workers=two"),
        ("classify", "top=two"), ("classify", "batch_size=null"), ("evaluate", "seed=[1]"),
        ("report", "closeups=many"), ("report", "embed=7"), ("prepare", "near_duplicates=two"),
        ("prepare", "data.source.species=two"), ("tune", "tune.trials=two"),
        ("benchmark", "status=7"),
    ],
)  # fmt: skip
def test_every_verb_refuses_with_one_line(
    verb: str, wrong: str, cli: Cli, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = {"tune": ["tune=triplet"], "benchmark": ["benchmark=smoke"]}.get(verb, [])
    with pytest.raises(SystemExit) as stop:
        cli(verb, *chosen, wrong, "hydra.run.dir=run")
    assert stop.value.code == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith(f"lookalike {verb}: {wrong}: need ")
    assert not Path("run").exists()


WRONG = {
    "text": "'two words'", "negative": "-7", "zero": "0", "huge": "1000000000000", "big": "1e30",
    "null": "null", "list": "[1,two]", "half": "0.5", "true": "true",
}  # fmt: skip


def leaves(node: Any, above: str = "") -> Iterator[str]:
    for name, value in node.items():
        key = f"{above}.{name}".lstrip(".")
        if isinstance(value, dict):
            yield from leaves(value, key)
        elif not name.startswith("_") and not (isinstance(value, str) and "${" in value):
            yield key


def jobs(compose: Compose, given: Sequence[str]) -> list[str]:
    keys = leaves(OmegaConf.to_container(compose("train", *given)))
    own = [key for key in keys if not key.startswith(("paths.", "resume.overrides"))]
    assert len(own) > 75
    return [f"{key}={value}" for key in own for value in WRONG.values()]


def works_or_says_so(
    cli: Cli, given: Sequence[str], wrong: str, capsys: pytest.CaptureFixture[str]
) -> None:
    threads = torch.get_num_threads()
    code = 0
    try:
        cli("train", *given, wrong, f"hydra.run.dir='runs/{abs(hash(wrong))}'")
    except SystemExit as stop:
        code = stop.code
    finally:
        torch.set_num_threads(threads)
    said = capsys.readouterr().err.rpartition("lookalike train: ")[2].strip()
    if code:
        assert (code, bool(said), "\n" in said) == (2, True, False), (wrong, said)


@pytest.fixture
def short(tiny: tuple[str, ...]) -> tuple[str, ...]:
    return (*tiny, "evaluation.before_training=false", "batches_per_epoch=2")


@pytest.mark.slow
def test_a_sample_of_wrong_values(
    cli: Cli, short: tuple[str, ...], compose: Compose, capsys: pytest.CaptureFixture[str]
) -> None:
    for wrong in random.Random(0).sample(jobs(compose, short), 2):
        works_or_says_so(cli, short, wrong, capsys)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("part", range(8))
def test_every_wrong_value(
    part: int, cli: Cli, short: tuple[str, ...], compose: Compose, capsys: Any
) -> None:
    for wrong in jobs(compose, short)[part::8]:
        works_or_says_so(cli, short, wrong, capsys)


@pytest.mark.slow
@pytest.mark.parametrize("group", ["data", "evaluation", "backbone", "head", "experiment"])
def test_no_choice_is_out_of_range(group: str, compose: Compose) -> None:
    """A name that means something else in a file of conf/ would be refused."""
    files = sorted((Path(__file__).parents[1] / "conf" / group).glob("*.yaml"))
    assert files
    for file in files:
        check_ranges(compose("train", f"{group}={file.stem}"))


def test_every_range_is_of_a_key(compose: Compose) -> None:
    """A range whose key has another name by now would never be looked at."""
    text = "\n".join(
        file.read_text() for file in (Path(__file__).parents[1] / "conf").rglob("*.yaml")
    )
    for name in RANGES:
        assert f"{name}:" in text, name
