"""What runs on a GPU: the same results as on the CPU, batches from pinned memory, no needless wait.

tests/test_synchronisation.py counts on the CPU what is asked for here with CUDA's own debug mode.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from conftest import Compose
from lookalike.config import build
from lookalike.device import find_device
from lookalike.inference.checkpoint import read_checkpoint
from lookalike.inference.embedder import load_embedder
from lookalike.inference.testing import embed_test_images, measured_images
from lookalike.memory import peak_memory, watch_peak
from lookalike.retrieval.embeddings import embed
from lookalike.training.experiment import Experiment
from test_synchronisation import CHOICES, OURS, embedded, part_of

pytestmark = pytest.mark.gpu
EXACT = ("trainer=gpu", "trainer.precision=32-true")
WITHOUT_QUESTIONS = [choice for choice, (count, _) in OURS.items() if count == 0]
DRAWING = ("miner=distance_weighted", "miner=uniform_histogram", "miner=hdc")  # at random


@contextmanager
def in_full_float32() -> Iterator[None]:
    """A context in which convolutions are in full float32."""
    allowed = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = allowed


def waits_in(run: Callable[[], object]) -> int:
    """How often CUDA says that the program waited."""
    torch.cuda.synchronize()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            run()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return sum("synchronizing CUDA operation" in str(each.message) for each in said)


def gradient(part: nn.Module, device: str) -> tuple[Tensor, Tensor]:
    """The loss of a batch and its gradient."""
    embeddings, labels = embedded()
    there = embeddings.detach().to(device).requires_grad_()
    loss = part.to(device)(there, labels.to(device))
    loss.backward()
    assert there.grad is not None
    return loss.detach().cpu(), there.grad.cpu()


@pytest.mark.filterwarnings("ignore:__array_wrap__")  # PML's large-margin softmax and NumPy 2
@pytest.mark.parametrize("choice", [each for each in CHOICES if each.startswith("loss=")])
def test_a_loss_is_the_same(choice: str, compose: Compose) -> None:
    torch.manual_seed(0)
    part = part_of(choice, compose)
    same = deepcopy(part)  # a memory of earlier batches is not in the state
    on_cpu, on_gpu = gradient(part, "cpu"), gradient(same, "cuda")
    for ours, theirs in zip(on_cpu, on_gpu, strict=True):
        torch.testing.assert_close(theirs, ours, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    "choice", [each for each in CHOICES if each.startswith("miner=") and each not in DRAWING]
)
def test_a_miner_finds_the_same(choice: str, compose: Compose) -> None:
    part = part_of(choice, compose)
    embeddings, labels = embedded()
    on_cpu = part(embeddings.detach(), labels)
    on_gpu = part(embeddings.detach().cuda(), labels.cuda())
    if on_cpu is None:
        assert on_gpu is None
        return
    as_sets = [
        set(zip(*(each.tolist() for each in mined), strict=False)) for mined in (on_cpu, on_gpu)
    ]
    assert as_sets[0] == as_sets[1]


@pytest.mark.parametrize("choice", WITHOUT_QUESTIONS)
def test_a_loss_or_miner_without_questions_never_waits(choice: str, compose: Compose) -> None:
    part = part_of(choice, compose).cuda()
    embeddings, labels = embedded()
    there, labels = embeddings.detach().cuda().requires_grad_(), labels.cuda()

    def run() -> None:
        result = part(there, labels)
        if isinstance(result, Tensor):
            result.backward()

    run()
    assert waits_in(run) == 0


def test_a_whole_run(tiny: tuple[str, ...], compose: Compose, tmp_path: Path) -> None:
    """Trained, validated and tested; the checkpoint embeds alike on either device."""
    watch_peak()
    experiment = Experiment(compose("train", *tiny, *EXACT), tmp_path)
    best = experiment.fit()
    assert all(np.isfinite(value) for value in experiment.test(best).values())
    assert peak_memory()["gpu_memory"] > 0
    images = measured_images(read_checkpoint(best.file).data())
    with in_full_float32():
        on_cpu, on_gpu = (
            embed_test_images(best, images, find_device(name)) for name in ("cpu", "cuda")
        )
    np.testing.assert_allclose(on_gpu.vectors, on_cpu.vectors, atol=1e-4)
    assert on_gpu.ids.tolist() == on_cpu.ids.tolist()
    file = str(images.records.paths[0])
    vectors = [load_embedder(best.file, device)(file) for device in ("cpu", "cuda")]
    np.testing.assert_allclose(*vectors, atol=1e-4)


def test_features_of_a_frozen_backbone(
    tiny: tuple[str, ...], compose: Compose, tmp_path: Path
) -> None:
    frozen = ("freeze=all", "data.cache=features", f"paths.cache={tmp_path}/cache")
    experiment = Experiment(compose("train", *tiny, *EXACT, *frozen), tmp_path)
    assert experiment.fit().epochs == 1


def test_batches_come_from_pinned_memory(
    tiny: tuple[str, ...], compose: Compose, tmp_path: Path
) -> None:
    experiment = Experiment(compose("train", *tiny, *EXACT), tmp_path)
    batch = next(iter(experiment.data.train_dataloader()))
    assert all(part.is_pinned() for part in batch)
    moved = waits_in(
        lambda: experiment.learner.transfer_batch_to_device(batch, torch.device("cuda"), 0)
    )
    assert moved == 0


def test_a_step_never_waits(tiny: tuple[str, ...], compose: Compose, tmp_path: Path) -> None:
    """Forward, loss, backward and optimiser, as the learner does them without Lightning."""
    config = compose("train", *tiny, "trainer=gpu", "loss=softmax")
    learner = Experiment(config, tmp_path).learner.cuda().train()
    optimizer = torch.optim.AdamW(learner.parameters())
    images = torch.randint(0, 256, (8, 3, 16, 16), dtype=torch.uint8, device="cuda")
    labels = torch.arange(8, device="cuda") % 4

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast("cuda", torch.bfloat16):
            embeddings = learner.embedder(images)
        learner.loss(embeddings, labels, learner.miner(embeddings, labels)).backward()
        optimizer.step()

    step()
    assert waits_in(step) == 0


def test_the_folded_network_embeds_alike(
    tiny: tuple[str, ...], compose: Compose, tmp_path: Path
) -> None:
    config = compose("train", *tiny, "backbone=tiny_batch_norm")
    experiment = Experiment(config, tmp_path)
    embedder = build(config.embedder)
    loader = experiment.data.test_dataloader()
    with in_full_float32():
        found = [
            embed(embedder.for_measuring().to(name), loader, torch.device(name)).vectors
            for name in ("cpu", "cuda")
        ]
    np.testing.assert_allclose(*found, atol=1e-4)
