"""`lookalike serve` under load: 50 clients on this machine, each of which asks at once again.

    python speed/serving.py --images PHOTOS --weights FILE

Every request sends a photograph and gets 20 hits. No request may fail but with 503, which announces
when to come again; memory may not grow.
"""

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import numpy as np
from side_by_side import Row, Table, write

COMMAND = "python speed/serving.py --images PHOTOS --weights FILE"
CLIENTS = 50
SECONDS = 60
WARM = 15  # seconds, after which memory may not grow any more


@dataclass
class Load:
    """What came of it.

    statuses: how many answers of each status.
    seconds: of every search that was answered.
    memory: bytes of the server, a value a second.
    """

    statuses: Counter[int] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    memory: list[int] = field(default_factory=list)

    @property
    def p50_and_p99(self) -> tuple[float, float]:
        """Seconds."""
        p50, p99 = np.percentile(self.seconds, [50, 99])
        return float(p50), float(p99)

    @property
    def grown(self) -> float:
        """MiB from the warm server to the end."""
        return (self.memory[-1] - self.memory[WARM]) / 2**20

    def __str__(self) -> str:
        p50, p99 = self.p50_and_p99
        return (
            f"{CLIENTS} clients, {SECONDS} s: {dict(self.statuses)}, p50 {p50:.3f} s, "
            f"p99 {p99:.3f} s, {self.memory[WARM] / 2**20:.0f} MiB, {self.grown:+.0f} MiB more"
        )


@contextmanager
def server(index: Path, *more: str) -> Iterator[tuple[str, int]]:
    """The address of a server in a process of its own, and the process's id."""
    command = [
        sys.executable, "-m", "lookalike", "serve", f"index={index}", "port=0", "device=cpu", *more,
    ]  # fmt: skip
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=index.parent) as process:
        assert process.stdout
        line = next(line for line in process.stdout if line.startswith("http://"))
        yield line.strip().rstrip("/"), process.pid
        process.terminate()
        process.wait(20)


def load(address: str, pid: int, files: Sequence[bytes]) -> Load:
    """Ask for `SECONDS` seconds; every answer is a page of hits, or an announced 503."""
    told = Load()
    end = time.monotonic() + SECONDS

    async def client(number: int) -> None:
        async with httpx.AsyncClient(base_url=address, timeout=30) as opened:
            turn = 0
            while time.monotonic() < end:
                turn += 1
                began = time.monotonic()
                file = files[(number * 7 + turn) % len(files)]
                response = await opened.post("/search?k=20&fold=true", files={"file": file})
                told.statuses[response.status_code] += 1
                if response.status_code == 503:
                    assert int(response.headers["Retry-After"]) >= 1
                    await asyncio.sleep(0.2)
                elif response.status_code == 200:
                    told.seconds.append(time.monotonic() - began)
                    assert len(response.json()["hits"]) > 0

    async def watch() -> None:
        while time.monotonic() < end:
            await asyncio.sleep(1)
            pages = Path(f"/proc/{pid}/statm").read_text().split()[1]
            told.memory.append(int(pages) * os.sysconf("SC_PAGE_SIZE"))

    async def everything() -> None:
        await asyncio.gather(watch(), *(client(number) for number in range(CLIENTS)))

    asyncio.run(everything())
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", required=True, help="folder of photographs")
    parser.add_argument("--weights", required=True, help="of MobileNetV2")
    options = parser.parse_args()
    files = [file.read_bytes() for file in sorted(Path(options.images).rglob("*.jpg"))[:400]]
    with tempfile.TemporaryDirectory() as place:
        index = Path(place) / "photos.index"
        subprocess.run(
            [sys.executable, "-m", "lookalike", "index", "build", f"images={options.images}",
             f"out={index}", "model=mobilenet_v2", f"model.mobilenet_v2.weights={options.weights}"],
            check=True, cwd=place,
        )  # fmt: skip
        with server(index) as (address, pid):
            told = load(address, pid, files)
    print(told)
    p50, p99 = told.p50_and_p99
    failed = sum(count for status, count in told.statuses.items() if status not in (200, 503))
    note = (
        f"{told.statuses[200]} searches answered, {told.statuses[503]} announced 503s, {failed} "
        f"failed; {told.memory[WARM] / 2**20:.0f} MiB, {told.grown:+.0f} MiB after {SECONDS} s"
    )
    rows = [Row("p50", (p50,), None, None, note), Row("p99", (p99,))]
    title = f"serve: {CLIENTS} clients for {SECONDS} s, MobileNetV2, {len(files)} photographs"
    write("serving", [Table(title, COMMAND, "s", "p50", rows)])


if __name__ == "__main__":
    main()
