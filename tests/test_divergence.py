"""A training that diverges stops at that step, with its images, before a weight is spoilt."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from math import inf, nan
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from conftest import Compose
from lookalike.errors import InputError
from lookalike.inference.checkpoint import read_checkpoint
from lookalike.training import divergence
from lookalike.training.divergence import SKIPPED, StopAtDivergence, last_good
from lookalike.training.experiment import Experiment
from processes import in_processes

Make = Callable[..., Experiment]
DIVERGED = "the training has diverged in epoch {}, batch {}: {}"


@pytest.fixture
def make(compose: Compose, tiny: tuple[str, ...], tmp_path: Path) -> Make:
    """make(overrides) -> three epochs of five batches."""

    def experiment(*overrides: str) -> Experiment:
        more = ("trainer.max_epochs=3", "data.sampler.batches_per_epoch=5", "loss=softmax")
        config = compose("train", *tiny, *more, "trainer.precision=32-true", *overrides)
        return Experiment(config, tmp_path / "run")

    return experiment


def diverge(experiment: Experiment, call: int, other: Callable[[Tensor], Tensor]) -> list[Any]:
    """Change the loss from a call on, counted from 1.

    Returns a list that gets the record ids of each batch, and the weights before it.
    """
    learner, batches = experiment.learner, []
    loss, step = learner.loss.forward, learner.training_step

    def changed(*given: Any) -> Tensor:
        return other(loss(*given)) if len(batches) >= call else loss(*given)

    def noted(batch: Any, batch_idx: int) -> Tensor:
        weights = {name: value.clone() for name, value in learner.state_dict().items()}
        batches.append((batch.ids.tolist(), weights))
        return step(batch, batch_idx)

    learner.loss.forward = changed
    learner.training_step = noted  # type: ignore[method-assign]
    return batches


def wrong_gradient(value: float) -> Callable[[Tensor], Tensor]:
    """A loss that is right, with a gradient that is not."""

    def other(loss: Tensor) -> Tensor:
        loss = loss * 1.0
        loss.register_hook(lambda gradient: gradient * value)
        return loss

    return other


def message_of(experiment: Experiment) -> str:
    with pytest.raises(InputError) as error:
        experiment.fit()
    assert "\n" not in str(error.value)
    return str(error.value)


EXPLODED = "the gradients have exploded (their norm is "
FROZEN = ["freeze=all", "trainer.precision=bf16-mixed"]
WRONG = (
    (lambda loss: loss * nan, "the loss is nan", []),
    (lambda loss: loss * nan, "the loss is nan", FROZEN),
    (wrong_gradient(nan), EXPLODED + "nan)", []),
    (wrong_gradient(1e14), EXPLODED, []),
    pytest.param(lambda loss: loss + inf, "the loss is inf", [], marks=pytest.mark.slow),
    pytest.param(wrong_gradient(1e25), EXPLODED, [], marks=pytest.mark.slow),
    pytest.param(wrong_gradient(nan), EXPLODED + "nan)", FROZEN, marks=pytest.mark.slow),
    pytest.param(wrong_gradient(1e25), EXPLODED, FROZEN, marks=pytest.mark.slow),
)


@pytest.mark.parametrize(("other", "said", "more"), WRONG)
def test_it_stops_at_that_step(other: Any, said: str, more: list[str], make: Make) -> None:
    experiment = make(*more)
    batches = diverge(experiment, 8, other)  # the third batch of the second epoch
    message = message_of(experiment)
    assert DIVERGED.format(2, 3, said) in message
    ids, weights = batches[-1]
    assert len(batches) == 8
    assert f"(rows of split.csv): {', '.join(map(str, ids))};" in message
    assert str(experiment.data.records.paths[ids[0]]) in message
    for name, value in experiment.learner.state_dict().items():
        if "running" not in name and "num_batches" not in name:
            assert torch.equal(value, weights[name])  # as they were before the step
    last = experiment.folder / "checkpoints" / "last.ckpt"
    assert f"The last good checkpoint is {last}, after 1 epochs." in message
    assert all(bool(each.isfinite().all()) for each in read_checkpoint(last).state.values())


def test_the_command_that_is_named_goes_on(make: Make, compose: Compose) -> None:
    experiment = make()
    diverge(experiment, 8, lambda loss: loss * nan)
    command = shlex.split(message_of(experiment).rpartition("smaller steps: ")[2])
    assert command[:2] == ["lookalike", "train"]
    file = command[2].removeprefix("resume=")
    assert command[3:] == [
        "trainer.gradient_clip_val=1", "learning_rate.backbone=1e-05", "learning_rate.head=1e-05",
        "learning_rate.loss=0.001",
    ]  # fmt: skip
    again = make(*command[3:])
    assert again.fit(file).epochs >= 1
    assert again.learner.optimizers().param_groups[0]["initial_lr"] == 1e-5  # type: ignore[union-attr]


def test_before_anything_was_saved_the_start_is_named(make: Make) -> None:
    experiment = make("data.seed=3")
    diverge(experiment, 1, lambda loss: loss * nan)
    message = message_of(experiment)
    assert DIVERGED.format(1, 1, "the loss is nan") in message
    assert "Nothing was saved yet. Start again with smaller steps: lookalike train" in message
    assert "data.seed=3 trainer.gradient_clip_val=1 learning_rate" in message
    assert last_good(experiment.folder) is None


def test_a_batch_of_an_accumulated_step_is_found(make: Make) -> None:
    experiment = make("trainer.accumulate_grad_batches=2")
    factors = iter([nan, 1.0])
    batches = diverge(experiment, 3, lambda loss: loss * next(factors))
    message = message_of(experiment)
    assert len(batches) == 4
    assert f": {', '.join(map(str, batches[2][0]))};" in message


def test_weights_that_a_step_spoils_are_not_saved(make: Make) -> None:
    experiment = make()
    learner = experiment.learner

    def spoil(outputs: Any, batch: Any, batch_idx: int) -> None:
        if (learner.current_epoch, batch_idx) == (1, 4):
            next(learner.embedder.head.parameters()).data[0] = inf

    learner.on_train_batch_end = spoil  # type: ignore[method-assign]
    message = message_of(experiment)
    assert "in epoch 2: a step has left weights that are not finite." in message
    saved = read_checkpoint(experiment.folder / "checkpoints" / "last.ckpt")
    assert saved.epochs == 1
    assert all(bool(each.isfinite().all()) for each in saved.state.values())


def test_clipped_gradients_may_be_large(make: Make) -> None:
    experiment = make("trainer.gradient_clip_val=1")
    batches = diverge(experiment, 8, wrong_gradient(1e14))
    experiment.fit()
    assert len(batches) == 15


@pytest.mark.parametrize("miner", ["pair_margin", "triplet_margin"])
def test_a_miner_that_finds_nothing_is_no_error(miner: str, make: Make) -> None:
    margins = {
        "pair_margin": ("data.miner.pos_margin=9", "data.miner.neg_margin=-9"),
        "triplet_margin": ("data.miner.margin=-9",),
    }
    loss = "contrastive" if miner == "pair_margin" else "triplet"
    experiment = make(f"loss={loss}", f"miner={miner}", *margins[miner])
    experiment.fit()
    assert float(experiment.trainer.callback_metrics["train/loss"]) == 0


def test_the_image_that_is_wrong_may_be_the_cause(make: Make, monkeypatch: Any) -> None:
    """Features that are no numbers reach the loss through a network that is frozen."""
    experiment = make("freeze=all", "head=identity")
    forward = type(experiment.learner.embedder).forward
    monkeypatch.setattr(
        type(experiment.learner.embedder),
        "forward",
        lambda self, images: forward(self, images) * nan,
    )
    assert DIVERGED.format(1, 1, "the loss is nan") in message_of(experiment)


class _Event:
    """A stand-in for CUDA's, on the CPU."""

    def synchronize(self) -> None:
        pass


@pytest.fixture
def on_its_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every step's numbers arrive later, as on a GPU."""
    begun = divergence._Step.begun.__func__  # type: ignore[attr-defined]

    def later(cls: Any, *given: Any) -> Any:
        step = begun(cls, *given)
        return cls(step.at, step.seen, step.found, _Event())

    monkeypatch.setattr(divergence._Step, "begun", classmethod(later))


@pytest.mark.parametrize(("call", "seen"), [(8, 9), (10, 10), (15, 15)])
def test_a_gpu_is_asked_a_step_later_and_before_anything_is_saved(
    call: int, seen: int, make: Make, on_its_way: None
) -> None:
    experiment = make()
    batches = diverge(experiment, call, lambda loss: loss * nan)
    message = message_of(experiment)
    epoch, batch = divmod(call - 1, 5)
    assert DIVERGED.format(epoch + 1, batch + 1, "the loss is nan") in message
    assert len(batches) == seen
    assert f": {', '.join(map(str, batches[call - 1][0]))};" in message
    saved = last_good(experiment.folder)
    assert saved is not None
    assert saved.epochs == epoch


def test_scaled_gradients_may_overflow_for_a_while(make: Make) -> None:
    experiment = make()
    watch = next(c for c in experiment.trainer.callbacks if isinstance(c, StopAtDivergence))
    experiment.trainer.strategy.precision_plugin.scaler = object()  # type: ignore[attr-defined]
    for _ in range(2):
        assert [watch._of_gradients(experiment.trainer, inf) for _ in range(SKIPPED)] == [""] * 20
        assert watch._of_gradients(experiment.trainer, 1.0) == ""
    said = [watch._of_gradients(experiment.trainer, nan) for _ in range(SKIPPED + 1)]
    assert re.fullmatch("the gradients have overflowed in 21 steps in a row", said[-1])


def test_all_processes_stop_if_the_loss_of_one_is_no_number(tmp_path: Path) -> None:
    """Each names the images of the loss that is wrong; none waits for another."""
    data: Any = SimpleNamespace(records=SimpleNamespace(paths=[f"{n}.png" for n in range(8)]))
    weights = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.SGD([weights], lr=1.0)

    def said(rank: int) -> str:
        trainer: Any = SimpleNamespace(
            current_epoch=1, fit_loop=SimpleNamespace(batch_idx=2), world_size=2,
            strategy=SimpleNamespace(root_device=torch.device("cpu")), precision_plugin=None,
            gradient_clip_val=None, optimizers=[SimpleNamespace(param_groups=[])],
            lightning_module=None,
        )  # fmt: skip
        watch = StopAtDivergence(tmp_path / "run", data, ["loss=softmax"])
        ids = torch.tensor([2, 5]) if rank else torch.tensor([7, 0])
        learner: Any = None
        try:
            for loss in (1.0, nan if rank else 1.0):  # the second step is wrong in one process
                watch.on_train_batch_start(trainer, learner, SimpleNamespace(ids=ids), 0)
                watch.on_before_backward(trainer, learner, torch.tensor(loss))
                watch.on_before_optimizer_step(trainer, learner, optimizer)
        except InputError as error:
            return str(error)
        return "it went on"

    first, second = in_processes(2, tmp_path, said)
    assert DIVERGED.format(2, 3, "the loss of another process is not finite") in first
    assert DIVERGED.format(2, 3, "the loss is nan") in second
    for each in (first, second):
        assert "(rows of split.csv): 2, 5; the first files: 2.png, 5.png." in each


SPOILT = """
import os
from lookalike.training.learner import MetricLearner

started = MetricLearner.on_train_start

def spoil(self):
    forward = self.loss.forward
    at_fault = os.environ.get("LOCAL_RANK") == "1"
    def spoilt(*given):
        wrong = at_fault and self.global_step == 3
        return forward(*given) * (float("nan") if wrong else 1)
    self.loss.forward = spoilt
    started(self)

MetricLearner.on_train_start = spoil
"""


@pytest.mark.slow
def test_two_processes_end_with_one_line_if_one_diverges(
    tiny: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(SPOILT)
    command = [
        sys.executable, "-m", "lookalike", "train", *tiny, "trainer=ddp", "trainer.accelerator=cpu",
        "trainer.devices=2", "trainer.precision=32-true", "loss_scope=local", "loss=softmax",
        "trainer.max_epochs=3", "data.sampler.batches_per_epoch=2", "hydra.run.dir=run",
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(tmp_path)}
    ended = subprocess.run(
        command, cwd=tmp_path, env=environment, timeout=300, capture_output=True, text=True
    )
    assert ended.returncode == 2
    said = [line for line in ended.stderr.splitlines() if "the training has diverged" in line]
    ids = re.findall(r"in epoch 2, batch 2: the loss .* \(rows of split.csv\): ([\d, ]+);", said[0])
    assert len(ids[0].split(", ")) == 8
    assert "Traceback" not in ended.stderr
    (file,) = re.findall(r"The last good checkpoint is (\S+last.ckpt), after 1 epochs", said[0])
    state = read_checkpoint(tmp_path / file).state
    assert all(bool(value.isfinite().all()) for value in state.values())
