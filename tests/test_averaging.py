"""The moving average of the weights: computed again by hand, measured, kept, and resumed."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from lookalike.inference.checkpoint import read_checkpoint
from lookalike.interruption import Interrupted
from lookalike.training.checkpointing import TRAINED
from lookalike.training.experiment import Experiment

DECAY = 0.6


class Killed(BaseException):
    """Ends a training as a power cut would."""


@pytest.fixture
def make(compose: Any, tiny: tuple[str, ...], tmp_path: Path) -> Any:
    """make("folder", overrides) -> two epochs of four batches, with batch norm and proxies."""

    def experiment(folder: str, *overrides: str, ema: bool = True) -> Experiment:
        averaging = ("averaging=ema", f"averaging.decay={DECAY}") if ema else ()
        config = compose(
            "train", *tiny, "backbone=tiny_batch_norm", "loss=proxy_anchor", *averaging,
            "data.eval_batch_size=6", "trainer.max_epochs=2", "data.sampler.batches_per_epoch=4",
            "checkpoint.every_minutes=0", "learning_rate.backbone=0.01", *overrides,
        )  # fmt: skip
        return Experiment(config, tmp_path / folder)

    return experiment


def content(run: Experiment, name: str) -> dict[str, Any]:
    return torch.load(run.folder / "checkpoints" / f"{name}.ckpt", weights_only=True)


def watched(run: Experiment) -> list[dict[str, Tensor]]:
    """The weights when training begins and after each step of the optimiser, filled by the fit."""
    seen: list[dict[str, Tensor]] = []

    def note() -> None:
        seen.append({name: each.clone() for name, each in run.learner.state_dict().items()})

    started, ended = run.learner.on_train_start, run.learner.on_train_batch_end

    def on_start() -> None:
        started()
        note()

    def on_end(*given: Any) -> None:
        ended(*given)
        if run.trainer.global_step == len(seen):
            note()

    run.learner.on_train_start, run.learner.on_train_batch_end = on_start, on_end  # type: ignore[method-assign]
    return seen


@pytest.mark.parametrize("accumulated", [1, 2])
def test_the_average_by_hand_is_measured_and_kept(make: Any, accumulated: int) -> None:
    run = make("run", f"trainer.accumulate_grad_batches={accumulated}")
    seen = watched(run)
    measured: list[dict[str, Tensor]] = []
    start = run.learner.on_validation_epoch_start

    def on_start() -> None:
        measured.append({name: each.clone() for name, each in run.learner.state_dict().items()})
        start()

    run.learner.on_validation_epoch_start = on_start
    best = run.fit()
    assert len(seen) == 1 + 8 // accumulated
    average = {name: value.double() for name, value in seen[0].items()}
    halfway: dict[str, Tensor] = {}
    for step, weights in enumerate(seen[1:], 1):
        decay = min(DECAY, (1 + step) / (10 + step))
        for name in average:
            average[name] = decay * average[name] + (1 - decay) * weights[name].double()
        if step == 4 // accumulated:
            halfway = dict(average)
    last = content(run, "last")
    floats = [name for name, value in seen[0].items() if value.is_floating_point()]
    assert len(measured) == 2
    for name in floats:
        for found, expected in ((measured[0], halfway), (measured[1], average),
                                (last["state_dict"], average)):  # fmt: skip
            torch.testing.assert_close(found[name].double(), expected[name], rtol=1e-5, atol=1e-6)
    trained = {**last["state_dict"], **last[TRAINED]}
    assert all(torch.equal(trained[name], seen[-1][name]) for name in trained)
    assert not torch.equal(trained["loss.proxies"], last["state_dict"]["loss.proxies"])
    kept = content(run, "best")
    assert TRAINED not in kept
    assert kept["state_dict"].keys() == seen[0].keys()
    expected = measured[best.epochs - 1]
    assert all(torch.equal(kept["state_dict"][name], expected[name]) for name in expected)


@pytest.mark.parametrize(
    ("hook", "call", "error"),
    [
        ("training_step", 3, Killed()),
        pytest.param("validation_step", 2, Interrupted(15), marks=pytest.mark.slow),
        pytest.param("training_step", 7, Interrupted(15), marks=pytest.mark.slow),
    ],
)
def test_a_resumed_run_goes_on_with_both(
    make: Any, hook: str, call: int, error: BaseException
) -> None:
    whole = make("whole")
    whole.fit()
    begun = make("run")
    original, calls = getattr(begun.learner, hook), []

    def counted(*given: Any) -> Any:
        calls.append(1)
        if len(calls) == call:
            raise error
        return original(*given)

    setattr(begun.learner, hook, counted)
    with pytest.raises(type(error)):
        begun.fit()
    again = make("run")
    again.fit(str(begun.folder / "checkpoints" / "last.ckpt"))
    one, other = content(whole, "last"), content(again, "last")
    assert one["state_dict"].keys() == other["state_dict"].keys()
    for part in ("state_dict", TRAINED):
        assert all(torch.equal(value, other[part][name]) for name, value in one[part].items())
    assert str(one["optimizer_states"]) == str(other["optimizer_states"])
    scores = [read_checkpoint(run.folder / "checkpoints" / "best.ckpt") for run in (whole, again)]
    assert (scores[0].scores, scores[0].epochs) == (scores[1].scores, scores[1].epochs)


def test_what_a_loss_remembers_is_not_averaged(make: Any) -> None:
    run = make(
        "memory", "loss=cross_batch_memory", "loss.memory_size=16", "trainer.max_epochs=1"
    )  # fmt: skip
    seen = watched(run)
    run.fit()
    kept = content(run, "last")["state_dict"]
    memory = [name for name in kept if name.startswith("loss.") and kept[name].numel() > 64]
    assert memory
    assert all(torch.equal(kept[name], seen[-1][name]) for name in memory)


def test_none_changes_nothing(make: Any) -> None:
    run = make("none", "trainer.max_epochs=1", ema=False)
    run.fit()
    assert TRAINED not in content(run, "last")
