"""A network and an index that were made earlier open, and give the numbers that they gave.

Both were made of six drawn images by
`lookalike train data=drawn ... backbone=tiny_batch_norm loss=softmax_triplet trainer.max_epochs=2`
and `lookalike index build images=photos checkpoint=best.ckpt`.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import CHECKOUT
from lookalike.inference.checkpoint import read_checkpoint
from lookalike.inference.embedder import load_embedder
from lookalike.inference.index import Index

FIXTURES = CHECKOUT / "tests" / "fixtures"
CHECKPOINT = FIXTURES / "drawn.ckpt"
EXPECTED = json.loads((FIXTURES / "drawn.json").read_text())


def pixels(number: int) -> np.ndarray:
    """An image (20, 24, 3) that no random generator decides."""
    return (np.arange(20 * 24 * 3).reshape(20, 24, 3) * (number + 3) // 5 % 251).astype(np.uint8)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Two images in each of three class folders."""
    for number in range(6):
        folder = tmp_path / "photos" / "abc"[number // 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels(number)).save(folder / f"{number}.png")
    return tmp_path / "photos"


def test_the_checkpoint_opens_and_embeds_as_it_did() -> None:
    kept = read_checkpoint(CHECKPOINT)
    assert kept.epochs == EXPECTED["epochs"]
    assert kept.scores["val/map_at_r"] == pytest.approx(EXPECTED["map_at_r"])
    embedder = load_embedder(CHECKPOINT, device="cpu", engine="torch")
    found = embedder([pixels(number) for number in range(6)])
    np.testing.assert_allclose(found, np.float32(EXPECTED["embeddings"]), atol=1e-4)


def test_the_index_opens_and_finds_what_it_found(photos: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(FIXTURES / "drawn.index", tmp_path / "drawn.index")
    index = Index.load(folder, "cpu", root=photos)
    (hits,) = index.search(photos / "b" / "3.png", k=4)
    assert [str(index.path(hit.id).relative_to(photos)) for hit in hits] == EXPECTED["found"]
    assert [hit.score for hit in hits] == pytest.approx(EXPECTED["scores"], abs=1e-4)
