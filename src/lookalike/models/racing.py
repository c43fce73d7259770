"""The fastest engine, found while the first batches are embedded."""

import logging
from time import perf_counter

from torch import Tensor, nn

from lookalike.distributed import world_size
from lookalike.models.engines import PACKAGES, Compute, Exported, UnusableError, is_installed

log = logging.getLogger(__name__)

TORCH = "PyTorch"
INSTALL = "pip install " + " or ".join(f'"lookalike[{name}]"' for name in PACKAGES)
WORTH = 60.0  # seconds of PyTorch; exporting, opening and comparing take 4 and more


class Racing:
    """Runs a network in PyTorch, tries other engines if many batches follow, and takes the fastest.

    PyTorch embeds the first batch. If what follows would take it `WORTH` seconds, or what it has
    done took them, every engine that is installed is opened and compared with PyTorch on that
    batch. Those that agree embed one of the next batches each, and the fastest embeds the rest.
    PyTorch stays on a GPU, and where several processes measure together: all must use one engine.

    Args:
        network: in evaluation mode and float32.
        method: of the network, images (B, ...) uint8 -> vectors (B, D).
    """

    def __init__(self, network: nn.Module, method: str = "forward") -> None:
        self.network = network
        self.method = method
        self.runs: dict[str, Compute] = {TORCH: getattr(network, method)}
        self.waiting: list[str] = []  # engines that have not been timed
        self.seconds: dict[str, float] = {}  # an image
        self.left = 0  # batches
        self.spent = 0.0  # seconds
        self.chosen: Compute | None = None
        self.reason = ""

    def expect(self, batches: int) -> None:
        """So many batches come next."""
        self.left = batches

    def __call__(self, images: Tensor) -> Tensor:
        """Images (B, ...) uint8 -> vectors (B, D)."""
        self.left -= 1
        if self.chosen is not None:
            return self.chosen(images)
        name = self.waiting.pop(0) if self.waiting else TORCH
        start = perf_counter()
        vectors = self.runs[name](images)
        elapsed = perf_counter() - start
        self.seconds[name] = elapsed / len(images)
        if len(self.runs) == 1:
            self._consider(images, vectors, elapsed)
        elif not self.waiting:
            self._choose()
        return vectors

    def _consider(self, images: Tensor, vectors: Tensor, elapsed: float) -> None:
        """Open other engines, if there are any and it is worth while."""
        self.spent += elapsed
        ahead = self.left * elapsed
        if images.device.type != "cpu":
            self._settle(TORCH, f"it computes on {images.device}")
        elif world_size() > 1:
            self._settle(TORCH, "several processes must use one engine")
        elif max(self.spent, ahead) >= WORTH:
            self._open(images, vectors)

    def _open(self, images: Tensor, vectors: Tensor) -> None:
        exported = Exported(self.network, self.method, images)
        refused = []
        for name in filter(is_installed, PACKAGES):
            try:
                self.runs[name] = exported.open(name, vectors)
            except UnusableError as error:
                refused.append(str(error))
        if len(self.runs) == 1:
            self._settle(TORCH, "; ".join(refused) or f"nothing else is installed ({INSTALL})")
        self.waiting = list(self.runs)

    def _choose(self) -> None:
        order = sorted(self.seconds, key=self.seconds.__getitem__)
        speeds = [f"{1 / self.seconds[name]:.0f} images/s with {name}" for name in order]
        self._settle(order[0], f"a batch ran at {', '.join(speeds)}")

    def _settle(self, name: str, reason: str) -> None:
        self.chosen = self.runs[name]
        self.runs = {}  # frees the others
        self._say(name, reason)

    def _say(self, name: str, reason: str) -> None:
        if reason != self.reason:
            log.info("Embedding with %s: %s.", name, reason)
        self.reason = reason
