"""A run that was cut off goes on as if it had not been; what it trains can't change unnoticed."""

import csv
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from torch import Tensor

from lookalike.commands.resume import PARTS
from lookalike.config_folder import config_folder
from lookalike.data.sampling import UniformBatches
from lookalike.data.seeding import SeededDraws
from lookalike.inference.checkpoint import read_checkpoint
from lookalike.inference.trust import check_trusted
from lookalike.interruption import Interrupted
from lookalike.losses.cross_batch_memory import CrossBatchMemory
from lookalike.training.experiment import Experiment
from lookalike.training.learner import MetricLearner
from lookalike.training.resume import newest
from lookalike.training.settings import obey

Cli = Callable[..., Any]


class Killed(BaseException):
    """Ends a training as a power cut would: nothing is saved any more."""


def weights_of(experiment: Experiment) -> Tensor:
    return torch.cat([part.detach().flatten() for part in experiment.learner.state_dict().values()])


def cut(experiment: Experiment, hook: str, call: int, error: BaseException) -> None:
    """Let a hook of the learner raise in its n-th call, counted from 1."""
    original, calls = getattr(experiment.learner, hook), []

    def counted(*given: Any) -> Any:
        calls.append(1)
        if len(calls) == call:
            raise error
        return original(*given)

    setattr(experiment.learner, hook, counted)


@pytest.fixture
def make(compose: Any, tiny: tuple[str, ...], tmp_path: Path) -> Callable[..., Experiment]:
    """make("folder", overrides) -> two epochs of five batches with dropout, saved after each."""

    def experiment(folder: str, *overrides: str) -> Experiment:
        config = compose(
            "train", *tiny, "backbone=tiny_batch_norm", "head=mlp", "head.dropout=0.3",
            "trainer.max_epochs=2", "data.sampler.batches_per_epoch=5",
            "checkpoint.every_minutes=0", *overrides,
        )  # fmt: skip
        return Experiment(config, tmp_path / folder)

    return experiment


@pytest.mark.parametrize(
    ("hook", "call", "error", "position", "workers"),
    [
        ("training_step", 4, Killed(), (0, 3), 0),
        pytest.param("training_step", 8, Killed(), (1, 2), 2, marks=pytest.mark.slow),
        ("validation_step", 3, Killed(), (1, 5), 0),  # saved as the validation began
        pytest.param("validation_step", 3, Interrupted(15), (1, 5), 2, marks=pytest.mark.slow),
        ("training_step", 6, Killed(), (1, 0), 0),
    ],
)
def test_a_run_goes_on_with_the_next_batch(
    make: Any, hook: str, call: int, error: BaseException, position: tuple[int, int], workers: int
) -> None:
    reading = (f"data.num_workers={workers}", "data.eval_batch_size=6")
    whole = make("whole", *reading)
    best = whole.fit()
    begun = make("run", *reading)
    cut(begun, hook, call, error)
    with pytest.raises(type(error)):
        begun.fit()
    saved = read_checkpoint(newest(begun.folder) or "")
    assert (saved.epochs, saved.batches) == position
    again = make("run", *reading)
    found = again.fit(str(saved.file))
    assert torch.equal(weights_of(again), weights_of(whole))
    assert (found.epochs, found.scores) == (best.epochs, best.scores)
    one, other = (
        torch.load(each.folder / "checkpoints" / "last.ckpt", weights_only=True)
        for each in (whole, again)
    )
    assert one["global_step"] == other["global_step"] == 10
    assert str(one["optimizer_states"]) == str(other["optimizer_states"])


def test_only_the_first_epoch_begins_behind_its_start() -> None:
    whole = SeededDraws(UniformBatches(np.arange(20), np.arange(20), 4), seed=3, epoch=2)
    later = SeededDraws(UniformBatches(np.arange(20), np.arange(20), 4), 3, epoch=2, skipped=3)
    assert [*later] == [*whole][3:]
    assert len(later) == len(whole) == 5
    for draws in (whole, later):
        draws.set_epoch(3)
    assert [*later] == [*whole]


def test_the_memory_of_earlier_batches_is_saved() -> None:
    def made() -> CrossBatchMemory:
        from pytorch_metric_learning.losses import ContrastiveLoss

        return CrossBatchMemory(ContrastiveLoss(), embedding_size=4, memory_size=20)

    torch.manual_seed(0)
    batches = [(torch.randn(6, 4), torch.randint(0, 3, (6,))) for _ in range(5)]
    for cut_off in (2, 4):  # before and after all places are filled
        whole, begun, again = made(), made(), made()
        values = [whole(*batch) for batch in batches]
        for batch in batches[:cut_off]:
            begun(*batch)
        again.load_state_dict(begun.state_dict())
        assert [again(*batch) for batch in batches[cut_off:]] == values[cut_off:]


def test_a_new_learning_rate_counts_and_an_old_one_changes_nothing() -> None:
    def made(rate: float, length: int, decay: float = 0.1) -> tuple[Any, Any]:
        optimizer = torch.optim.AdamW([torch.ones(2, requires_grad=True)], rate, weight_decay=decay)
        return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, lambda n: 1 - n / length)

    trained, schedule = made(0.5, 10)
    for _ in range(4):
        trained.step()
        schedule.step()
    for rate, length, expected in ((0.5, 10, 0.5 * 0.6), (0.1, 10, 0.1 * 0.6), (0.5, 40, 0.45)):
        optimizer, scheduler = made(rate, length)
        optimizer.load_state_dict(trained.state_dict())
        scheduler.load_state_dict(schedule.state_dict())
        obey(optimizer, scheduler, made(rate, length, decay=0.2)[0])
        assert optimizer.param_groups[0]["lr"] == expected
        assert optimizer.param_groups[0]["weight_decay"] == 0.2
        optimizer.step()
        scheduler.step()
        assert optimizer.param_groups[0]["lr"] == pytest.approx(rate * (1 - 5 / length))


def checkpoint_of(run: str, name: str = "last") -> dict[str, Any]:
    return torch.load(Path(run) / "checkpoints" / f"{name}.ckpt", weights_only=True)


def curve(run: str) -> list[dict[str, str]]:
    """The lines of training and validation in metrics.csv, as dicts of what they have."""
    rows = csv.DictReader((Path(run) / "metrics.csv").read_text().splitlines())
    lines = [{name: value for name, value in row.items() if value} for row in rows]
    return [line for line in lines if any(name.startswith(("train/", "val/")) for name in line)]


LONG = (
    "trainer.log_every_n_steps=1",
    "checkpoint.every_minutes=0",
    "evaluation.whole_ranking=false",
)


def start(
    cli: Cli,
    monkeypatch: pytest.MonkeyPatch,
    step: int,
    *command: str,
    error: BaseException | None = None,
) -> None:
    """A command that ends in one of its training steps, counted over all runs."""
    steps: list[int] = []
    training_step = MetricLearner.training_step

    def breaking(self: MetricLearner, *given: Any) -> Tensor:
        steps.append(1)
        if len(steps) == step:
            raise error or Killed()
        return training_step(self, *given)

    with monkeypatch.context() as patch:
        patch.setattr(MetricLearner, "training_step", breaking)
        with pytest.raises(SystemExit if error else Killed) as ended:
            cli(*command)
    if isinstance(ended.value, SystemExit):
        assert ended.value.code == 143


@pytest.mark.slow
def test_resume_brings_its_own_configuration_and_folder(
    cli: Cli, tiny: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    own = (*tiny, *LONG, "loss=triplet", "loss.margin=0.3", "seed=3", "trainer.max_epochs=2")
    cli("train", *own, "hydra.run.dir=whole")
    start(cli, monkeypatch, 7, "train", *own, "hydra.run.dir='outputs/train/my run'")
    for change, message in (
        ("loss=multi_similarity", "loss._target_"),
        ("seed=1", "seed: 3 -> 1"),
        ("data.fold=1", "data.fold: 0 -> 1"),
        ("embedding_size=16", "embedding_size: 8 -> 16"),
        ("loss.margin=0.2", "loss.margin: 0.3 -> 0.2"),
    ):
        with pytest.raises(SystemExit) as exit_:
            cli("train", tiny[0], "resume=last", change)
        assert exit_.value.code == 2
        error = capsys.readouterr().err
        assert message in error
        assert "resume.change=true" in error
    cli("train", tiny[0], "resume=outputs/train/my run")
    run = "outputs/train/my run"
    one, other = checkpoint_of("whole"), checkpoint_of(run)
    assert other["lookalike"]["config"]["loss"]["margin"] == 0.3
    for name, value in one["state_dict"].items():
        assert torch.equal(value, other["state_dict"][name])
    assert curve(run) == curve("whole")
    assert len(curve(run)) > 4
    assert (Path(run) / "metrics.json").is_file()


@pytest.mark.slow
def test_a_chain_of_runs_keeps_its_best(cli: Cli, tiny: tuple[str, ...], capsys: Any) -> None:
    """B and C learn far too fast, so that an earlier network is the best."""
    cli("train", *tiny, *LONG, "trainer.max_epochs=1", "hydra.run.dir=a")
    with pytest.raises(SystemExit):
        cli("train", tiny[0], "resume=a")
    assert "raise trainer.max_epochs" in capsys.readouterr().err
    spoilt = ("learning_rate.head=10", "learning_rate.backbone=10", "scheduler=constant")
    for before, run, epochs in (("a", "b", 2), ("b", "c", 3)):
        cli("train", tiny[0], f"resume={before}", f"trainer.max_epochs={epochs}", *spoilt,
            f"hydra.run.dir={run}")  # fmt: skip
        rates = checkpoint_of(run)["optimizer_states"][0]["param_groups"]
        assert [group["lr"] for group in rates] == [10, 10]
        kept = checkpoint_of(run, "best")
        scores = [float(line["val/map_at_r"]) for line in curve(run) if "val/map_at_r" in line]
        assert len(scores) == epochs
        assert kept["lookalike"]["scores"]["val/map_at_r"] == pytest.approx(max(scores))
    assert kept["lookalike"]["epochs"] < 3
    (Path("a")).rename("elsewhere")
    cli("train", tiny[0], "resume=elsewhere/checkpoints/last.ckpt", "trainer.max_epochs=2",
        "hydra.run.dir=d")  # fmt: skip
    assert checkpoint_of("d")["lookalike"]["epochs"] == 2


FIVE = ("data.sampler.batches_per_epoch=5", "evaluation.before_training=false")


@pytest.mark.slow
def test_a_multirun_does_what_is_left(
    cli: Cli, tiny: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    command = ("train", "-m", *tiny, *LONG, *FIVE, "seed=0,1")
    cli(*command, "hydra.sweep.dir=whole")
    start(cli, monkeypatch, 8, *command, "hydra.sweep.dir=sweep", error=Interrupted(15))
    said = capsys.readouterr().err
    assert "1 of 2 runs are done. Go on: lookalike train -m " in said
    assert said.count("hydra.sweep.dir") == 1
    first = Path("sweep/0__seed0/metrics.json").read_bytes()
    cli(*command, "hydra.sweep.dir=sweep")
    assert Path("sweep/0__seed0/metrics.json").read_bytes() == first
    assert "resumed after 0 epochs and 2 batches" in Path("sweep/1__seed1/train.log").read_text()
    one, other = (checkpoint_of(f"{each}/1__seed1")["state_dict"] for each in ("whole", "sweep"))
    assert all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.slow
def test_a_refit_goes_on_after_the_fit_that_chose_its_epochs(
    cli: Cli, tiny: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ("train", *tiny, *LONG, *FIVE, "evaluation.refit=true", "trainer.max_epochs=2")
    cli(*command, "hydra.run.dir=whole")
    refitted = checkpoint_of("whole/refit", "final")
    assert refitted["lookalike"]["batches"] == 0
    for step in (8, 13):  # in the fit, and in the refit after ten steps
        start(cli, monkeypatch, step, *command, f"hydra.run.dir=run{step}")
        cli("train", tiny[0], f"resume=run{step}")
        again = checkpoint_of(f"run{step}/refit", "final")
        assert again["lookalike"]["epochs"] == refitted["lookalike"]["epochs"]
        for name, value in refitted["state_dict"].items():
            assert torch.equal(value, again["state_dict"][name])


@pytest.mark.slow
def test_early_stopping_counts_on(
    cli: Cli, tiny: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """Nothing improves after the first epoch, so that three without are the end."""
    still = ("learning_rate.head=0", "learning_rate.backbone=0", "callbacks=early_stopping",
             "callbacks.early_stopping.patience=3", "trainer.max_epochs=9")  # fmt: skip
    start(cli, monkeypatch, 13, "train", *tiny, *LONG, *FIVE, *still, "hydra.run.dir=run")
    cli("train", tiny[0], "resume=run")
    assert checkpoint_of("run")["lookalike"]["epochs"] == 4
    with pytest.raises(SystemExit):
        cli("train", tiny[0], "resume=run", "trainer.max_epochs=20")
    assert "stopped early, after 4 epochs" in capsys.readouterr().err
    cli("train", tiny[0], "resume=run", "callbacks.early_stopping.patience=5",
        "hydra.run.dir=more")  # fmt: skip
    assert checkpoint_of("more")["lookalike"]["epochs"] == 6


@pytest.mark.slow
def test_a_benchmark_and_a_search_tell_what_is_done_and_go_on(
    cli: Cli, tiny: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Any
) -> None:
    mine = tmp_path / "mine"
    for group, lines in {
        "benchmark": "_target_: lookalike.studies.cells.Benchmark\nevery: []\n"
        "axes: [[loss=triplet, loss=contrastive]]\nfolds: [0]\nseeds: [0]\nmetrics: [map_at_r]\n",
        "tune": "defaults: [/base/tune@_here_, _self_]\nevery: [loss=triplet]\n"
        "space: {loss.margin: {low: 0.1, high: 1.0}}\nfolds: [0]\ntrials: 2\n",
    }.items():
        (mine / group).mkdir(parents=True)
        (mine / group / "two.yaml").write_text(lines)
    for verb, told in (("benchmark", "2 of 3 runs are done"), ("tune", "1 of 2 trials are done")):
        command = (verb, "--config-dir", str(mine), f"{verb}=two", *tiny, *LONG, *FIVE)
        start(cli, monkeypatch, 8, *command, error=Interrupted(15))
        said = capsys.readouterr().err
        assert f"{told}. Go on: lookalike {verb} " in said
        assert str(mine) in said
        cli(*command)
        assert "lookalike benchmark" in capsys.readouterr().out
    (log,) = Path("outputs/benchmark/two/cells").glob("loss-contrastive_*/train.log")
    assert "resumed after 0 epochs and 2 batches" in log.read_text()


def test_a_checkpoint_does_not_choose_what_a_resumed_run_builds(
    cli: Cli, tiny: tuple[str, ...], tmp_path: Path, capsys: Any
) -> None:
    cli("train", *tiny, *FIVE, "hydra.run.dir=run")
    file = Path("run/checkpoints/last.ckpt")
    content = torch.load(file, weights_only=True)
    config, command = content["lookalike"]["config"], f"touch {tmp_path / 'pwned'}"
    named = f"{{_target_:os.system,command:'{command}'}}"
    own = list(config["resume"]["overrides"])
    for key in ("loss._target_", "callbacks.x", "hydra.callbacks.x"):
        config["resume"]["overrides"] = [*own, f"++{key}={named}"]
        if key == "loss._target_":
            config["resume"]["overrides"] = own
            config |= {"loss": {"_target_": "os.system", "command": command}}
        torch.save(content, file)
        with pytest.raises(SystemExit):
            cli("train", tiny[0], "resume=run", "trainer.max_epochs=2", f"hydra.run.dir={key}")
        assert "os.system" in capsys.readouterr().err
    assert not (tmp_path / "pwned").exists()


def test_every_part_that_a_run_can_choose_may_stand_in_its_checkpoint() -> None:
    conf = config_folder()
    entries: Any = OmegaConf.to_container(OmegaConf.load(conf / "train.yaml"))
    groups = {next(iter(each)) for each in entries["defaults"] if isinstance(each, dict)}
    chosen = [
        target
        for group in groups - {"hydra", "experiment", "sweep", "debug", "paths", "optional recipe"}
        for file in (conf / group).glob("**/*.yaml")
        for target in re.findall(r"^ *_target_: *([\w.]+)", file.read_text(), re.M)
    ]
    assert len(chosen) > 150
    for target in chosen:
        check_trusted({"_target_": target}, known=PARTS)


@pytest.mark.slow
def test_two_processes_end_together_and_go_on(tiny: tuple[str, ...], tmp_path: Path) -> None:
    def train(*overrides: str) -> Any:
        command = [sys.executable, "-m", "lookalike", "train", *overrides]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        with (tmp_path / "stderr").open("w") as stderr:
            return subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=stderr)

    own = (*tiny, *LONG, "data.sampler.batches_per_epoch=60", "trainer=ddp", "trainer.devices=2",
           "trainer.accelerator=cpu", "trainer.precision=32-true", "backbone=tiny_batch_norm",
           "evaluation.before_training=false", "trainer.max_epochs=2")  # fmt: skip
    assert train(*own, "hydra.run.dir=whole").wait(300) == 0
    begun = train(*own, "hydra.run.dir=run")
    while not (tmp_path / "run/checkpoints/last.ckpt").is_file():
        time.sleep(0.1)
        assert begun.poll() is None
    begun.send_signal(signal.SIGTERM)
    code, said = begun.wait(120), (tmp_path / "stderr").read_text()
    assert code == 143, said
    assert f"Go on: lookalike train resume={tmp_path / 'run'}" in said
    saved = read_checkpoint(tmp_path / "run/checkpoints/last.ckpt")
    assert (saved.epochs, saved.batches) < (2, 0)
    assert train(tiny[0], "resume=run").wait(300) == 0
    one, other = (checkpoint_of(str(tmp_path / each))["state_dict"] for each in ("whole", "run"))
    assert all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.parametrize(
    "overrides",
    [
        pytest.param(
            ("freeze=thaw", "freeze.thaw.from_layer=0", "freeze.thaw.epoch=1"),
            marks=pytest.mark.slow,
        ),
        ("freeze=all", "data.cache=features", "data.feature_views=2", "loss=softmax", "miner=none"),
        ("trainer.accumulate_grad_batches=2", "loss=cross_batch_memory", "loss.memory_size=20"),
    ],
    ids=["thawed", "features", "accumulated"],
)  # fmt: skip
def test_parts_with_a_state_of_their_own_go_on(
    make: Any, overrides: tuple[str, ...], tmp_path: Path
) -> None:
    cached = (*overrides, f"data.cache_folder={tmp_path}")
    whole, begun = make("whole", *cached), make("run", *cached)
    whole.fit()
    cut(begun, "training_step", 9, Killed())
    with pytest.raises(Killed):
        begun.fit()
    again = make("run", *cached)
    saved = newest(begun.folder)
    assert read_checkpoint(saved or "").batches == (2 if overrides[0].endswith("=2") else 3)
    again.fit(str(saved))
    assert torch.equal(weights_of(again), weights_of(whole))


@pytest.mark.slow
def test_a_network_that_was_only_measured_can_be_trained_later(
    cli: Cli, tiny: tuple[str, ...], capsys: Any
) -> None:
    cli("train", *tiny, *FIVE, "trainer.max_epochs=1", "hydra.run.dir=whole")
    cli("train", *tiny, *FIVE, "trainer.max_epochs=0", "hydra.run.dir=measured")
    with pytest.raises(SystemExit):
        cli("train", tiny[0], "resume=measured")
    assert "raise trainer.max_epochs" in capsys.readouterr().err
    cli("train", tiny[0], "resume=measured", "trainer.max_epochs=1", "hydra.run.dir=trained")
    one, other = (checkpoint_of(each)["state_dict"] for each in ("whole", "trained"))
    assert all(torch.equal(value, other[name]) for name, value in one.items())
