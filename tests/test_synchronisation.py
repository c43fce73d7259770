"""No training step waits for the device without need, and batches are copied without waiting.

A GPU works behind the program, which waits only where it asks for a value: a number, the length of
a list. Such questions are counted here on the CPU; tests/test_gpu.py asks CUDA itself.
"""

import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor, nn
from torch.nn.functional import normalize
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from conftest import Compose
from lookalike.config import build, config_folder
from lookalike.data.images import Batch
from lookalike.training.experiment import Experiment

# their result, or its size, depends on values
ASKING = {
    "_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim",
    "unique_consecutive", "bincount", "equal", "repeat_interleave", "histc",
}  # fmt: skip
INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_"}
COPYING = {"cpu", "tolist", "numpy", "new_tensor"}  # from the device, or to it from Python
MAKING = {torch.tensor, torch.as_tensor}

PAIRS = "lists the pairs, or triplets, that count"
LARGEST = "the most positives of an anchor set the size of a table"
# ours that ask: how often in a step, forward and backward, and what for
OURS: dict[str, tuple[int, str]] = {
    "loss=centroid_triplet": (1, "the classes of the batch"),
    "loss=cross_batch_memory": (12, "PML's memory and the loss inside it list pairs"),
    "loss=dynamic_soft_margin": (3, PAIRS),
    "loss=histogram": (4, "lists the pairs of each of two histograms"),
    "loss=hyperbolic": (2, PAIRS),
    "loss=lifted_structure": (2, PAIRS),
    "loss=manifold": (0, ""),
    "loss=matryoshka": (12, "the loss inside it, at four lengths"),
    "loss=margin": (3, "without a triplet the boundaries do not learn; PML's reducer"),
    "loss=ntxent": (2, PAIRS),
    "loss=pnp": (1, PAIRS),
    "loss=potential_field": (0, ""),
    "loss=recall_at_k": (2, PAIRS),
    "loss=roadmap": (7, "lists the pairs; PML's reducer lists those above zero"),
    "loss=self_supervised": (2, PAIRS),
    "loss=smooth_ap": (1, PAIRS),
    "loss=snr": (6, "lists the pairs; PML's reducer lists those above zero"),
    "loss=softmax": (0, ""),
    "loss=softmax_triplet": (1, LARGEST),
    "loss=softmax_triplet_smoothed": (1, LARGEST),
    "loss=squared_contrastive": (0, ""),
    "loss=squared_triplet": (1, PAIRS),
    "loss=threshold_consistent_margin": (0, ""),
    "loss=triplet": (1, LARGEST),
    "loss=tuplet_margin": (2, PAIRS),
    "loss=vicreg": (4, "PML takes the entries off the diagonal with a mask"),
    "miner=angular": (2, PAIRS),
    "miner=batch_hard": (1, "leaves out anchors without a positive or a negative"),
    "miner=distance_weighted": (3, "anchors that can draw, the most draws, the draws that count"),
    "miner=none": (0, ""),
    "miner=triplet_margin": (2, PAIRS),
    "miner=uniform_histogram": (4, "lists the pairs, and the bins that hold any"),
}
ELSEWHERE = ("miner=in_pairs", "miner=in_triplets")  # they number what the sampler drew
CLASSES, EACH, SIZE = 8, 4, 16


class Questions(TorchDispatchMode):
    """Counts operations for which a GPU is waited for, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        name = operation._schema.name.partition("::")[2]
        if (name in ASKING or _lists_a_mask(name, args)) and not _is_excused():
            self.counts[name] += 1
        return operation(*args, **(kwargs or {}))


class Copies(TorchFunctionMode):
    """Counts copies that Python code asks for between the device and itself, by name."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        name = getattr(function, "__name__", "")
        makes = function in MAKING and kwargs.get("device") is not None
        moves = name == "to" and any(str(each) == "cpu" for each in (*args[1:], *kwargs.values()))
        if (name in COPYING or makes or moves) and not _is_excused():
            self.counts[name] += 1
        return function(*args, **kwargs)


def _lists_a_mask(name: str, args: Any) -> bool:
    """Whether a mask is made into a list of places; one value at a mask's places needs none."""
    masked = name in INDEXING and any(
        index is not None and index.dtype in (torch.bool, torch.uint8) for index in args[1]
    )
    return masked and (name == "index" or args[2].numel() != 1)


def _is_excused() -> bool:
    """Whether it is about the CPU, or stays on the device: the optimiser's count of steps, the
    reading of images, gradients that are moved to where they are, what has arrived of a step."""
    frame, in_the_step = sys._getframe(), False
    while frame := frame.f_back:
        file = frame.f_code.co_filename
        if frame.f_code.co_name == "move_data_to_device":  # a batch; on a GPU nothing waits for it
            return True
        if file.endswith("clip_grad.py") or "torch/utils/data/" in file:
            return True
        if file.endswith("training/divergence.py") and frame.f_code.co_name == "values":
            return True
        if "torch/optim/" in file and not in_the_step:
            return True
        in_the_step = in_the_step or "lightning" in file  # the optimiser calls it as its closure
    return False


def asked(run: Callable[[], object]) -> Counter[str]:
    with Questions() as questions, Copies() as copies:
        run()
    return questions.counts + copies.counts


def test_what_is_counted() -> None:
    values = torch.arange(6.0).requires_grad_()
    mask = torch.arange(6) > 2
    for run in (
        lambda: values.sum().item(),
        lambda: bool(values.any()),
        lambda: int(values.argmax()),
        lambda: mask.nonzero(),
        lambda: values[mask],
        lambda: values.detach().tolist(),
        lambda: values.detach().cpu(),
        lambda: values.detach().to("cpu"),
        lambda: torch.tensor(1.0, device=values.device),
        lambda: values.new_tensor([1.0]),
        lambda: mask.long().unique(),
        lambda: mask.long().bincount(),
        lambda: mask.equal(mask),
        lambda: mask.repeat_interleave(mask.long()),
    ):
        assert asked(run).total() == 1
    kept = values.detach().clone()
    for run in (
        lambda: kept.__setitem__(mask, 0.0),
        lambda: torch.where(mask, kept, 1.0),
        lambda: kept[torch.arange(3)],
        lambda: torch.tensor(1.0),
    ):
        assert asked(run).total() == 0
    assert asked(values[mask].sum().backward).total() == 1  # once more on the way back


CHOICES = [
    f"{folder}={file.stem}"
    for folder in ("loss", "miner")
    for file in sorted((config_folder() / folder).glob("*.yaml"))
    if f"{folder}={file.stem}" not in ELSEWHERE
]


def part_of(choice: str, compose: Compose) -> nn.Module:
    memory = ["loss.memory_size=64"] if choice == "loss=cross_batch_memory" else []
    config = compose(
        "train", choice, *memory, f"data.num_classes={CLASSES}", f"embedding_size={SIZE}"
    )
    return build(config.loss if choice.startswith("loss=") else config.data.miner)


def embedded() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(CLASSES * EACH) % CLASSES  # both halves alike, for two views
    centres = torch.randn(CLASSES, SIZE, generator=generator)
    noise = torch.randn(len(labels), SIZE, generator=generator)
    return normalize(centres[labels] + noise).requires_grad_(), labels


def step_of(part: nn.Module) -> Callable[[], None]:
    embeddings, labels = embedded()

    def run() -> None:
        result = part(embeddings, labels)
        if isinstance(result, Tensor):
            result.backward()

    return run


@pytest.mark.filterwarnings("ignore:__array_wrap__")  # PML's large-margin softmax and NumPy 2
@pytest.mark.parametrize("choice", CHOICES)
def test_a_loss_or_miner_of_ours_asks_only_for_what_it_must(choice: str, compose: Compose) -> None:
    part = part_of(choice, compose)
    run = step_of(part)
    run()  # a first batch may be checked
    if type(part).__module__.startswith("lookalike"):
        most, reason = OURS[choice]
        assert asked(run).total() == most
        assert bool(reason) == bool(most)
    else:
        assert choice not in OURS


def test_every_choice_is_tried() -> None:
    assert OURS.keys() <= set(CHOICES)
    assert len(CHOICES) == 60


class EachStep(Callback):
    """What is asked from the beginning of every training step to the beginning of the next."""

    def __init__(self) -> None:
        self.counts: list[Counter[str]] = []
        self.modes: list[Questions | Copies] = []

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self.end()
        self.modes = [Questions().__enter__(), Copies().__enter__()]

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.end()

    def end(self) -> None:
        while self.modes:
            mode = self.modes.pop()
            mode.__exit__(None, None, None)
            self.counts.append(mode.counts)

    def totals(self) -> list[int]:
        pairs = zip(self.counts[::2], self.counts[1::2], strict=True)
        return [(first + second).total() for first, second in pairs]


@pytest.fixture
def fitted(tiny: tuple[str, ...], compose: Compose, tmp_path: Path) -> Callable[..., list[int]]:
    def fit(*overrides: str) -> list[int]:
        whole = ["data.holdout=false", "trainer.limit_val_batches=0"]
        config = compose("train", *tiny, *whole, *overrides)
        experiment = Experiment(config, tmp_path)
        watch = EachStep()
        experiment.trainer.callbacks.append(watch)
        experiment.trainer.fit(experiment.learner, datamodule=experiment.data)
        return watch.totals()

    return fit


@pytest.mark.parametrize(
    "more",
    [
        [],
        ["callbacks=progress"],
        ["trainer.gradient_clip_val=1"],
        ["trainer.precision=bf16-mixed", "scheduler=constant"],
        ["freeze=batch_norm"],
        ["head=mlp", "data.cache=disk"],
    ],
    ids=lambda more: " ".join(more) or "default",
)
def test_a_whole_step_asks_for_nothing_unless_it_is_logged(
    more: list[str], fitted: Callable[..., list[int]]
) -> None:
    counts = fitted("loss=softmax", "trainer.log_every_n_steps=3", "trainer.max_steps=5", *more)
    assert counts == [0, 0, 4, 0, 0]  # the loss, and three learning rates, on the CPU as they are


class To(TorchFunctionMode):
    """The arguments with which tensors are moved."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[Any, dict[str, Any]]] = []

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if getattr(function, "__name__", "") == "to":
            self.seen.append((args[1:], kwargs or {}))
        return function(*args, **(kwargs or {}))


def test_batches_are_copied_to_a_device_without_waiting(
    tiny: tuple[str, ...], compose: Compose, tmp_path: Path
) -> None:
    experiment = Experiment(compose("train", *tiny), tmp_path)
    batch = next(iter(experiment.data.train_dataloader()))
    with To() as moved:
        there = experiment.learner.transfer_batch_to_device(batch, torch.device("meta"), 0)
    assert isinstance(there, Batch)
    assert {part.device.type for part in there} == {"meta"}
    assert len(moved.seen) == 3
    assert all(given.get("non_blocking") is True for _, given in moved.seen)


def test_loaders_pin_their_batches_where_there_is_a_gpu(
    tiny: tuple[str, ...], compose: Compose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = Experiment(compose("train", *tiny), tmp_path).data
    loaders = (
        data.train_dataloader,
        data.train_dataloader_in_order,
        data.val_dataloader,
        data.test_dataloader,
        lambda: data.measured.loader(data.records.ids("test")),
    )
    for there in (False, True):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        assert [make().pin_memory for make in loaders] == [there] * 5
