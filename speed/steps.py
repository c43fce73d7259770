"""Steps of training: the bare one that limits us, ours without Lightning, and the pace of many."""

from collections.abc import Callable, Iterable
from time import perf_counter
from typing import Any

import torch
from omegaconf import DictConfig
from plain_script import BATCH, NORMALIZE, WARM_UP, make_model
from pytorch_lightning import Callback
from torch import Tensor, nn
from torch.nn.functional import normalize

from lookalike.config import build
from lookalike.data.images import Batch
from lookalike.training.learner import MetricLearner

Step = Callable[[Batch], None]


class Pace(Callback):
    """When each step of training began and ended, seconds."""

    def __init__(self) -> None:
        self.starts: list[float] = []
        self.ends: list[float] = []

    def on_train_batch_start(self, *_: Any) -> None:
        self.starts.append(perf_counter())

    def on_train_batch_end(self, *_: Any) -> None:
        self.ends.append(perf_counter())

    def run(self, step: Step, batches: Iterable[Batch]) -> None:
        """Time a step on every batch, without Lightning."""
        for batch in batches:
            self.on_train_batch_start()
            step(batch)
            self.on_train_batch_end()

    @property
    def images_per_second(self) -> float:
        """Of the steps after the warm-up, with the time between them."""
        timed = self.ends[WARM_UP - 1 :]
        return (len(timed) - 1) * BATCH / (timed[-1] - timed[0])

    @property
    def steps(self) -> tuple[float, ...]:
        """Milliseconds of every step after the warm-up."""
        return _milliseconds(self.starts, self.ends)

    @property
    def gaps(self) -> tuple[float, ...]:
        """Milliseconds between two steps: logging, callbacks, waiting for a batch."""
        return _milliseconds(self.ends, self.starts[1:])


def bare_step(config: DictConfig, miner: nn.Module) -> Step:
    """The plain script's network with our levers: channels_last, bfloat16, batch norm frozen."""
    name, weights = config.backbone.name, config.backbone.weights
    model = make_model(name, weights).to(memory_format=torch.channels_last).train()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()
    centre, spread = (torch.tensor(v).view(1, 3, 1, 1) for v in (NORMALIZE.mean, NORMALIZE.std))

    def embed(images: Tensor) -> Tensor:
        return normalize(model((images / 255 - centre) / spread).float())

    return _step(embed, build(config.loss), miner, list(model.parameters()))


def our_step(learner: MetricLearner) -> Step:
    """What `lookalike train` does in a step, without Lightning."""
    learning = [p for p in learner.train().parameters() if p.requires_grad]
    return _step(learner.embedder, learner.loss, learner.miner, learning)


def _step(
    embed: Callable[[Tensor], Tensor],
    loss_function: nn.Module,
    miner: nn.Module,
    parameters: list[nn.Parameter],
) -> Step:
    optimizer = torch.optim.AdamW(parameters, lr=1e-4)

    def step(batch: Batch) -> None:
        optimizer.zero_grad()
        with torch.autocast("cpu", torch.bfloat16):
            embeddings = embed(batch.images)
        loss = loss_function(embeddings, batch.labels, miner(embeddings, batch.labels))
        loss.backward()
        optimizer.step()

    return step


def _milliseconds(starts: list[float], ends: list[float]) -> tuple[float, ...]:
    pairs = list(zip(starts, ends, strict=False))
    return tuple(1e3 * (end - start) for start, end in pairs[WARM_UP:])
