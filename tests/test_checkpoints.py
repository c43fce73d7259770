"""Checkpoints: written whole, compared with their checksums, no larger than needed."""

import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch

from conftest import CHECKOUT
from lookalike.errors import InputError
from lookalike.inference.checkpoint import read_checkpoint, read_content, write_content
from lookalike.training.checkpointing import WholeCheckpoints
from processes import one_thread

FIXTURE = CHECKOUT / "tests" / "fixtures" / "format_2.ckpt"  # of the first version of format 2
STATES = ("optimizer_states", "lr_schedulers")
Cli = Callable[..., Any]


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """What the fixture holds, as it is written today."""
    write_content(tmp_path / "best.ckpt", read_content(FIXTURE))
    return tmp_path / "best.ckpt"


def test_a_checkpoint_of_format_2_opens() -> None:
    checkpoint = read_checkpoint(FIXTURE)
    assert checkpoint.epochs == 1
    assert checkpoint.scores["val/map_at_r"] == 1.0
    assert checkpoint.class_names == tuple(f"class{number}" for number in range(8))
    assert checkpoint.resumable
    assert checkpoint.fingerprint() == "51e5053f2040d21d"
    image = (torch.arange(3 * 16 * 16) % 251).reshape(1, 3, 16, 16).to(torch.uint8)
    (embedding,) = checkpoint.embedder()(image).tolist()
    expected = [-0.3691, -0.4788, 0.1710, 0.3375, -0.1828, -0.5736, -0.3578, -0.0313]
    assert embedding == pytest.approx(expected, abs=1e-3)  # by the version that saved it
    assert checkpoint.loss().classifier.weight.shape == (8, 8)
    assert checkpoint.transform().short_side == 16


def test_a_flipped_bit_is_found_wherever_it_counts(saved: Path) -> None:
    """It changes nothing that is read, or it is an error."""
    whole, content = read_content(saved), saved.read_bytes()
    draw, errors = random.Random(0), 0
    for _ in range(200):
        damaged = bytearray(content)
        damaged[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
        saved.write_bytes(damaged)
        try:
            found = read_content(saved)
        except InputError:
            errors += 1
            continue
        torch.testing.assert_close(found["state_dict"], whole["state_dict"], rtol=0, atol=0)
        assert found["lookalike"] == whole["lookalike"]
    assert errors > 50  # the rest lies in padding, names and dates


def test_a_flipped_bit_of_a_weight_is_named_damage(saved: Path) -> None:
    weight = read_content(saved)["state_dict"]["embedder.head.linear.weight"]
    content = bytearray(saved.read_bytes())
    place = content.index(weight.numpy().tobytes())
    content[place + 5] ^= 1
    saved.write_bytes(content)
    with pytest.raises(InputError, match=r"best\.ckpt is damaged.*checksum.*last\.ckpt"):
        read_checkpoint(saved)


def test_a_weight_that_was_changed_before_it_was_written_is_found(saved: Path) -> None:
    content = torch.load(saved, weights_only=True)
    values = content["state_dict"]["embedder.head.linear.weight"]
    values.view(torch.int32)[0, 0] ^= 1
    torch.save(content, saved)
    with pytest.raises(InputError, match="the weights differs from its checksum"):
        read_checkpoint(saved)


@pytest.mark.parametrize("left", [0, 1, 1000, 20_000])
def test_a_cut_checkpoint(left: int, saved: Path) -> None:
    os.truncate(saved, left)
    with pytest.raises(InputError, match="can't be read as a checkpoint"):
        read_checkpoint(saved)


@pytest.mark.parametrize(
    ("optimizer", "with_states"),
    [("last", {"last", "epoch=3"}), ("both", {"last", "epoch=3", "best", "final"}), ("none", ())],
)
def test_which_checkpoints_have_the_optimiser(
    optimizer: Any, with_states: set[str], tmp_path: Path
) -> None:
    content = torch.load(FIXTURE, weights_only=True)
    for name in ("best", "final", "last", "epoch=3"):
        file = tmp_path / f"{name}.ckpt"
        WholeCheckpoints(optimizer).save_checkpoint(content, file)
        kept = WholeCheckpoints().load_checkpoint(file)
        assert all((state in kept) == (name in with_states) for state in STATES), name
        assert read_checkpoint(file).resumable == (name in with_states)
        torch.testing.assert_close(kept["state_dict"], content["state_dict"], rtol=0, atol=0)
    WholeCheckpoints(optimizer).save_checkpoint(content, tmp_path / "start.ckpt")
    start = WholeCheckpoints().load_checkpoint(tmp_path / "start.ckpt")
    assert [start[state] for state in STATES] == [[], []]  # nothing was trained
    assert set(STATES) <= set(content)  # what Lightning handed over is not changed


def test_another_choice_is_refused() -> None:
    with pytest.raises(InputError, match=r"checkpoint\.optimizer=all.*last, both or none"):
        WholeCheckpoints("all")  # type: ignore[arg-type]


def test_a_run_keeps_the_optimiser_where_it_can_be_resumed(
    cli: Cli, tiny: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    short = (*tiny, "evaluation.before_training=false")
    cli("train", *short, "hydra.run.dir=run")
    best, last = (Path("run/checkpoints") / name for name in ("best.ckpt", "last.ckpt"))
    assert read_checkpoint(last).resumable
    assert not read_checkpoint(best).resumable
    assert sorted(path.name for path in best.parent.iterdir()) == ["best.ckpt", "last.ckpt"]
    assert best.stat().st_size < last.stat().st_size
    with pytest.raises(SystemExit):
        cli("train", *short, f"resume={best}", "hydra.run.dir=again")
    assert "resume=RUN/checkpoints/last.ckpt" in capsys.readouterr().err
    assert not Path("again").exists()


TRAINED = """
import os, random, signal, sys, time
from pathlib import Path
import lookalike.training.run
from lookalike import compose, train

draw, folder = random.Random(0), Path("run")
for number in range(10):
    child = os.fork()  # of a process that has imported everything
    if child == 0:
        train(compose("train", sys.argv[1:]))
    writes = set()
    while len(writes) < draw.randrange(2, 6):  # several checkpoints were begun
        assert os.waitpid(child, os.WNOHANG)[0] == 0, "it ended by itself"
        writes |= set(folder.glob("checkpoints/.*.partial"))
    time.sleep(draw.uniform(0, 0.02))
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    halves = len(list(folder.glob("checkpoints/.*.partial")))
    folder.rename(f"killed{number}")
    print("killed", halves, flush=True)
"""


@pytest.mark.slow
def test_no_kill_leaves_a_broken_checkpoint(tiny: tuple[str, ...], tmp_path: Path) -> None:
    """Ten kills while checkpoints are written; the temporary folder is on another file system."""
    elsewhere = "/dev/shm" if Path("/dev/shm").is_dir() else str(tmp_path)
    overrides = [
        *tiny, "hydra.run.dir=run", "trainer.max_epochs=100000", "embedding_size=60000",
        "evaluation.before_training=false",
    ]  # fmt: skip
    shown = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", TRAINED, *overrides], cwd=tmp_path,
        env=one_thread(TMPDIR=elsewhere), capture_output=True, text=True,
    )  # fmt: skip
    assert shown.returncode == 0, shown.stderr
    halves = [int(line.split()[1]) for line in shown.stdout.splitlines() if "killed" in line]
    assert len(halves) == 10
    assert sum(halves) > 0  # some were killed in a write
    files = list(tmp_path.glob("killed*/checkpoints/*.ckpt"))
    assert len(files) >= 10
    assert all(read_checkpoint(file).epochs for file in files)


OTHERS = (None, 7, "text", [1], {"a": 1}, torch.zeros(3, 3))


def places(node: Any, above: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every part of nested dicts, down to the arguments of a network's parts."""
    for name, child in node.items():
        yield (*above, name)
        if isinstance(child, dict):
            yield from places(child, (*above, name))


def changed(content: dict[str, Any], place: tuple[Any, ...], other: Any) -> dict[str, Any]:
    """The same with another value at a place, or without it."""
    copy = deepcopy(content)
    node: Any = copy
    for name in place[:-1]:
        node = node[name]
    if other is GONE:
        del node[place[-1]]
    else:
        node[place[-1]] = other
    return copy


GONE = object()


def opened(file: Path) -> None:
    """All that a checkpoint is read for without training."""
    checkpoint = read_checkpoint(file)
    checkpoint.embedder()
    checkpoint.loss()
    checkpoint.transform()
    checkpoint.data()


def check_part(content: dict[str, Any], place: tuple[Any, ...], other: Any, file: Path) -> None:
    """It opens as if nothing were wrong, or says in one line what is."""
    torch.save(changed(content, place, other), file)
    try:
        opened(file)
    except InputError as error:
        said = str(error)
        assert said, place
        assert "\n" not in said, (place, said)


@pytest.fixture
def whole() -> dict[str, Any]:
    """The content of the checkpoint that is kept, without a checksum."""
    return read_content(CHECKOUT / "tests" / "fixtures" / "format_2.ckpt")


@pytest.mark.filterwarnings("ignore")
def test_every_part_of_ours_may_be_missing_or_something_else(
    whole: dict[str, Any], tmp_path: Path
) -> None:
    ours = whole["lookalike"]
    ours.pop("checksum", None)
    first = [("lookalike",), ("state_dict",), *(("lookalike", name) for name in ours)]
    for place in first:
        for other in (GONE, *OTHERS):
            check_part(whole, place, other, tmp_path / "changed.ckpt")
    for name in ("format", "config", "scores", "epochs", "class_names"):
        torch.save(changed(whole, ("lookalike", name), GONE), tmp_path / "changed.ckpt")
        with pytest.raises(InputError, match=rf"lacks lookalike\.{name}, or has something else"):
            read_checkpoint(tmp_path / "changed.ckpt")
    for name, value in whole["state_dict"].items():
        shape = changed(whole, ("state_dict", name), torch.zeros(2, 2, *value.shape))
        torch.save(shape, tmp_path / "changed.ckpt")
        with pytest.raises(InputError, match="does not fit its own"):
            opened(tmp_path / "changed.ckpt")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_every_part_of_its_configuration_may_be_missing_or_something_else(
    whole: dict[str, Any], tmp_path: Path
) -> None:
    config = whole["lookalike"]["config"]
    whole["lookalike"].pop("checksum", None)
    read = {name: config[name] for name in ("embedder", "loss", "data")}
    for place in places(read):
        for other in (GONE, *OTHERS[:-1]):
            check_part(whole, ("lookalike", "config", *place), other, tmp_path / "changed.ckpt")
