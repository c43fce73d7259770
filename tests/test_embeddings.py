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
from lookalike.retrieval import embeddings as embeddings_module
from lookalike.retrieval.embeddings import (
    Embeddings,
    collect,
    concatenated,
    count_relevant,
    embed,
    largest_exclusion,
)

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
    assert both.fingerprint == "59323d6b65e0161d"  # which saved files hold
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


def test_every_fault_is_told_in_full(tmp_path: Path) -> None:
    bad: dict[str, Any] = {"vectors": np.ones((3, 2), np.float16), "labels": np.zeros((3, 1))}
    with pytest.raises(
        ValueError,
        match=r"^vectors must be float32 \(N, D\), labels, ids and exclusion_ids int64 \(N,\), not "
        r"float16 \(3, 2\), float64 \(3, 1\), int64 \(3,\), int64 \(3,\)$",
    ):
        Embeddings(**{**GOOD, **bad, "fingerprint": ""})
    with pytest.raises(
        ValueError,
        match=r"^vectors, labels, ids and exclusion_ids differ in length: \[3, 2, 3, 3\]$",
    ):
        Embeddings(**{**GOOD, "labels": np.array([1, 2])})
    with pytest.raises(
        InputError,
        match=r"^embeddings hold NaN or infinity: the training has diverged\. Lower the learning "
        r"rate, clip the gradient \(trainer\.gradient_clip_val=1\), or use precision 32\.$",
    ):
        Embeddings(**{**GOOD, "vectors": np.full((3, 2), -np.inf, np.float32)})
    with pytest.raises(InputError) as nowhere:
        Embeddings.load(tmp_path / "set.npz")
    assert str(nowhere.value) == (
        f"no embeddings at {(tmp_path / 'set.npz').resolve()}. Give a file that `Embeddings.save` "
        "wrote, for example the embeddings.npz of a run."
    )
    for changed, reason in (
        ({"ids": np.zeros(3, np.int64)}, "an id stands there more than once"),
        ({"fingerprint": np.array("x")}, "the fingerprint x is not 16 hexadecimal digits"),
        ({"fingerprint": np.array("0" * 17)}, f"the fingerprint {'0' * 17} is not 16 hexadecimal "
                                              "digits"),
    ):  # fmt: skip
        np.savez(tmp_path / "set.npz", **(GOOD | changed))
        with pytest.raises(InputError) as caught:
            Embeddings.load(tmp_path / "set.npz")
        assert str(caught.value) == (
            f"{tmp_path / 'set.npz'} can't be read as embeddings ({reason}). Remove it, and embed "
            "the images again."
        )
    with pytest.raises(ValueError, match=r"^embeddings of different images can't be concatenated$"):
        concatenated([some()[:3], some()[1:4]])


@pytest.mark.parametrize("bad", [0, 2, 3, 9])
def test_one_number_that_is_none_is_found_anywhere(
    bad: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lookalike.retrieval.embeddings.FINITE_AT_ONCE", 3)
    vectors = np.ones((10, 2), np.float32)
    Embeddings(vectors, np.zeros(10, np.int64), np.arange(10))
    vectors[bad, 1] = np.nan
    with pytest.raises(InputError, match="NaN or infinity"):
        Embeddings(vectors, np.zeros(10, np.int64), np.arange(10))


def test_networks_together_have_length_1_and_the_same_similarities_on_average() -> None:
    first, second = some(0), some(1)
    unit = [
        Embeddings(
            each.vectors / np.linalg.norm(each.vectors, axis=1, keepdims=True),
            each.labels, each.ids, each.ids % 7,
        )
        for each in (first, second)
    ]  # fmt: skip
    both = concatenated(unit)
    assert (both.vectors.shape, both.vectors.dtype) == ((40, 16), np.float32)
    np.testing.assert_allclose(np.linalg.norm(both.vectors, axis=1), 1, rtol=1e-6)
    similar = [each.vectors @ each.vectors.T for each in (*unit, both)]
    np.testing.assert_allclose(similar[2], (similar[0] + similar[1]) / 2, atol=1e-6)
    assert both.exclusion_ids.tolist() == (np.arange(40) % 7).tolist()


def test_shorter_vectors_have_length_1_again() -> None:
    whole = some(fingerprint="0" * 16)
    whole.vectors[3] = 0
    whole.vectors[4] = 1e-13  # shorter than anything that is divided by
    short = whole.shortened(3)
    assert short.fingerprint == ""
    expected = whole.vectors[:, :3] / np.linalg.norm(whole.vectors[:, :3], axis=1)[:, None].clip(
        1e-12
    )
    np.testing.assert_allclose(short.vectors, expected, rtol=1e-6)
    assert short.vectors.dtype == np.float32
    assert short.vectors[3].tolist() == [0, 0, 0]


def test_relevant_items_are_counted_as_a_loop_counts_them() -> None:
    rng = np.random.default_rng(0)
    sizes = {"queries": 30, "gallery": 50}
    sets = {
        name: Embeddings(
            np.zeros((n, 2), np.float32), labels := rng.integers(0, 5, n), np.arange(n),
            labels * 3 + rng.integers(0, 3, n),
        )
        for name, n in sizes.items()
    }  # fmt: skip
    queries, gallery = sets["queries"], sets["gallery"]
    expected = [
        sum(
            label == other and own != its
            for other, its in zip(gallery.labels, gallery.exclusion_ids, strict=True)
        )
        for label, own in zip(queries.labels, queries.exclusion_ids, strict=True)
    ]
    assert count_relevant(queries, gallery).tolist() == expected
    assert count_relevant(queries, gallery).dtype == np.int64
    assert largest_exclusion(gallery) == np.bincount(gallery.exclusion_ids).max()
    assert largest_exclusion(gallery[:0]) == 0


def test_batches_become_one_set_in_order_of_id() -> None:
    vectors = torch.arange(12.0).reshape(6, 2)
    ids, labels = torch.tensor([5, 2, 9, 2, 0, 5]), torch.tensor([1, 0, 1, 0, 3, 1])
    parts = [(vectors[some], labels[some], ids[some]) for some in (slice(0, 2), slice(2, 6))]
    found = collect([(each.double(), *more) for each, *more in parts])
    assert found.ids.tolist() == [0, 2, 5, 9]
    assert found.labels.tolist() == [3, 0, 1, 1]
    assert found.vectors.tolist() == [[8, 9], [2, 3], [0, 1], [4, 5]]
    assert found.vectors.dtype == np.float32
    none = collect([])
    assert (none.vectors.shape, none.labels.dtype, none.ids.dtype) == ((0, 1), np.int64, np.int64)


def test_a_network_runs_over_a_loader(monkeypatch: pytest.MonkeyPatch) -> None:
    images = torch.arange(6 * 3 * 2 * 2, dtype=torch.uint8).reshape(6, 3, 2, 2)
    batches: Any = [
        (images[some], torch.arange(6)[some] // 2, torch.arange(6)[some])
        for some in (slice(0, 4), slice(4, 6))
    ]
    said = []
    track = embeddings_module.track
    monkeypatch.setattr(
        embeddings_module, "track",
        lambda steps, *given, **more: said.append((given, more)) or track(steps, *given, **more),
    )  # fmt: skip

    def compute(given: torch.Tensor) -> torch.Tensor:
        assert torch.is_inference_mode_enabled()
        return given.flatten(1)[:, :2].half()

    for more in ((), ("Looking",)):
        found = embed(compute, batches, torch.device("cpu"), *more)
        assert found.vectors.tolist() == images.flatten(1)[:, :2].tolist()
        assert (found.ids.tolist(), found.labels.tolist()) == ([*range(6)], [0, 0, 1, 1, 2, 2])
    assert said == [(("Embedding",), {"total": 2}), (("Looking",), {"total": 2})]


def test_what_is_saved_beside_is_loaded_by_name(tmp_path: Path) -> None:
    file = some().save(str(tmp_path / "set.npz"), paths=np.array(["a"]), other=np.arange(2))
    assert file == tmp_path / "set.npz"
    loaded, more = Embeddings.load_with(file, "other")
    assert {name: each.tolist() for name, each in more.items()} == {"other": [0, 1]}
    assert loaded.labels.tolist() == some().labels.tolist()
    with np.load(file) as arrays:
        assert {*arrays} == {*GOOD, "paths", "other"}
