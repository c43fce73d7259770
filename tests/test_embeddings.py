"""Embeddings on disk: damaged and foreign files are explained, fingerprints name their network."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from lookalike.errors import InputError
from lookalike.inference.checkpoint import read_checkpoint
from lookalike.provenance import weights_fingerprint
from lookalike.reports.embeddings import read_embeddings
from lookalike.retrieval.embeddings import Embeddings, concatenated

GOOD: dict[str, Any] = {
    "vectors": np.eye(3, 2, dtype=np.float32),
    "labels": np.array([0, 0, 1]),
    "ids": np.array([4, 5, 9]),
    "exclusion_ids": np.array([4, 4, 9]),
    "fingerprint": np.array("0123456789abcdef"),
}


def some(seed: int = 0, fingerprint: str = "") -> Embeddings:
    vectors = np.random.default_rng(seed).normal(size=(40, 8)).astype(np.float32)
    return Embeddings(vectors, np.arange(40) % 5, np.arange(40), fingerprint=fingerprint)


def test_any_damaged_byte_is_explained_or_harmless(tmp_path: Path) -> None:
    """zipfile, zlib and numpy raise many kinds of errors for them."""
    embeddings = some(fingerprint="0123456789abcdef")
    file = embeddings.save(tmp_path / "set.npz")
    content = file.read_bytes()
    explained = 0
    for place in range(0, len(content), 3):
        file.write_bytes(content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :])
        try:
            loaded = Embeddings.load(file)
        except InputError:
            explained += 1
        else:  # a time, or a byte that nobody reads: the arrays have checksums
            np.testing.assert_array_equal(loaded.vectors, embeddings.vectors)
            assert loaded.fingerprint == embeddings.fingerprint
    assert explained > 0.5 * len(content) / 3


@pytest.mark.parametrize("share", [0, 0.1, 0.5, 0.99])
def test_half_a_file_is_explained(share: float, tmp_path: Path) -> None:
    file = some().save(tmp_path / "set.npz")
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content))])
    with pytest.raises(InputError, match="embed the images again"):
        Embeddings.load(file)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"vectors": np.array([["a", "b"]] * 3)}, "must be float32"),
        ({"vectors": np.ones(3, np.float32)}, "must be float32"),
        ({"vectors": np.ones((3, 2))}, "not float64"),
        ({"vectors": np.ones((4, 2), np.float32)}, "differ in length"),
        ({"vectors": np.full((3, 2), np.nan, np.float32)}, "NaN"),
        ({"vectors": np.array([[1, "a"]] * 3, object)}, "pickle"),
        ({"labels": np.array(3)}, "int64"),
        ({"labels": np.arange(3.0)}, "int64"),
        ({"ids": np.zeros(3, np.int64)}, "more than once"),
        ({"fingerprint": np.arange(3)}, "16 hexadecimal digits"),
    ],
)
def test_arrays_of_another_kind_are_explained(
    changed: dict[str, Any], message: str, tmp_path: Path
) -> None:
    np.savez(tmp_path / "set.npz", **(GOOD | changed))
    with pytest.raises(InputError, match=message):
        Embeddings.load(tmp_path / "set.npz")


@pytest.mark.parametrize("lacking", GOOD)
def test_an_array_that_is_lacking_is_named(lacking: str, tmp_path: Path) -> None:
    arrays: dict[str, Any] = {name: GOOD[name] for name in GOOD if name != lacking}
    np.savez(tmp_path / "set.npz", **arrays)
    with pytest.raises(InputError, match=lacking):
        Embeddings.load(tmp_path / "set.npz")


def test_another_numpy_file_and_a_folder_are_explained(tmp_path: Path) -> None:
    with (tmp_path / "set.npz").open("wb") as stream:
        np.save(stream, np.ones(3))
    with pytest.raises(InputError, match="embed the images again"):
        Embeddings.load(tmp_path / "set.npz")
    with pytest.raises(InputError, match=r"embeddings\.npz of a run"):
        Embeddings.load(tmp_path)


def test_what_is_made_in_memory_is_checked_too() -> None:
    with pytest.raises(ValueError, match="int64"):
        Embeddings(np.ones((2, 2), np.float32), np.zeros(2), np.arange(2))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"paths": np.array(["a"])}, "differ in length"),
        ({"class_names": np.array(["one"])}, "1 class names"),
    ],
)
def test_a_run_whose_arrays_do_not_fit_together(
    changed: dict[str, Any], message: str, tmp_path: Path
) -> None:
    more: dict[str, Any] = {"paths": np.array(["a", "b", "c"]), "roles": np.array(["both"] * 3)}
    more["class_names"] = np.array(["one", "two"])
    np.savez(tmp_path / "embeddings.npz", **(GOOD | more))
    assert read_embeddings(tmp_path) is not None
    np.savez(tmp_path / "embeddings.npz", **(GOOD | more | changed))
    with pytest.raises(InputError, match=f"{message}.*embed=true"):
        read_embeddings(tmp_path)


def test_fingerprints_of_slices_and_of_networks_together() -> None:
    first, second, unknown = some(0, "0" * 16), some(1, "1" * 16), some(2)
    assert first[np.array([3, 1])].fingerprint == "0" * 16
    assert concatenated([first]).fingerprint == "0" * 16
    both, turned = concatenated([first, second]), concatenated([second, first])
    assert len(both.fingerprint) == 16
    assert len({both.fingerprint, turned.fingerprint, "0" * 16, "1" * 16}) == 4
    assert concatenated([first, unknown]).fingerprint == ""


def test_a_fingerprint_is_of_names_shapes_kinds_and_values() -> None:
    torch.manual_seed(0)
    state = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)).state_dict()
    others = [
        state | {"0.bias": state["0.bias"] + 1e-7},
        state | {"0.weight": state["0.weight"].reshape(4, 3)},
        state | {"0.bias": state["0.bias"].double()},
        state | {"1.num_batches_tracked": torch.tensor(1)},
        {f"a.{name}": value for name, value in state.items()},
    ]
    found = [weights_fingerprint(each) for each in (state, *others)]
    assert len(set(found)) == 6
    assert all(len(each) == 16 and int(each, 16) >= 0 for each in found)
    assert weights_fingerprint(dict(reversed(state.items()))) == found[0]


@pytest.mark.parametrize("refit", ["false", "true"])
def test_a_run_keeps_the_fingerprint_of_its_checkpoint(
    cli: Callable[..., Any], tiny: tuple[str, ...], refit: str
) -> None:
    given = ("report=embeddings", "trainer.max_epochs=2", f"evaluation.refit={refit}")
    cli("train", *tiny, *given, "hydra.run.dir=run")
    folder = Path("run", "refit") if refit == "true" else Path("run")
    name = "final.ckpt" if refit == "true" else "best.ckpt"
    kept = read_embeddings(Path("run"))
    assert kept is not None
    checkpoint = read_checkpoint(folder / "checkpoints" / name)
    assert kept.embeddings.fingerprint == checkpoint.fingerprint()
