"""The files of an index: what they hold, who may write them, and what is said of damaged ones."""

import json
import os
import platform
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from lookalike.errors import InputError
from lookalike.retrieval import generation, writing
from lookalike.retrieval.faiss_folder import FaissFolder
from lookalike.retrieval.generation import parsed, read_generation
from lookalike.retrieval.item_files import read_items, write_items
from lookalike.retrieval.vector_file import append_vectors, open_vectors, write_vectors
from lookalike.retrieval.writing import held

ADVICE = "Copy it again from where it came from, or remove the folder and build it again."


def says(text: str) -> Any:
    """That an `InputError` says this and nothing else."""
    return pytest.raises(InputError, match=f"^{re.escape(text)}$")


def vectors_of(count: int, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(count, 6))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture
def store(tmp_path: Path) -> FaissFolder:
    made = FaissFolder.create(tmp_path / "deep" / "index", 6)
    made.add(np.array([3, 5]), vectors_of(2), pa.table({"name": ["a", "b"]}))
    return made


def manifest(store: FaissFolder) -> dict[str, Any]:
    return json.loads((store.folder / "manifest.json").read_text())


def test_a_manifest_says_what_there_is(store: FaissFolder) -> None:
    said = manifest(store)
    assert (said["kind"], said["format"]) == ("lookalike index", 1)
    assert "torch" in said["versions"]
    assert (said["number"], said["rows"], said["dimensions"], said["next_id"]) == (2, 2, 6, 6)
    assert (said["vectors"], said["items"]) == ("vectors-000001.f32", "items-000002.parquet")
    assert (said["faiss"], said["about"]) == (None, {})
    assert sorted(said["files"]) == ["items-000002.parquet", "vectors-000001.f32"]
    assert {each.name for each in store.folder.iterdir()} == {
        ".lock", "manifest.json", "items-000002.parquet", "vectors-000001.f32",
    }  # fmt: skip
    assert store.items(np.array([5])).to_pylist() == [{"id": 5, "name": "b"}]
    assert store.columns["id"].type == pa.int64()


def test_ids_are_never_given_again(store: FaissFolder) -> None:
    store.remove(np.array([5]))
    assert manifest(store)["next_id"] == 6
    assert manifest(store)["vectors"] == "vectors-000003.f32"
    store.add(np.array([4]), vectors_of(1, 1), pa.table({"name": ["c"]}))
    assert manifest(store)["next_id"] == 6
    store.remove(where="name == 'a' or name == 'c'")
    store.remove()
    assert (manifest(store)["rows"], manifest(store)["next_id"]) == (0, 6)
    with store.alone():
        items = pa.table({"id": [9], "name": ["d"]})
        store.change(np.zeros(0, np.int64), items, [vectors_of(1)], about={"k": 1})
    assert (manifest(store)["next_id"], manifest(store)["about"]) == (10, {"k": 1})
    with store.alone():
        other = store.columns.append_column("more", pa.array(["x"]))
        store.change(np.zeros(0, np.int64), other.slice(0, 0), [], before=other)
    assert store.items(np.array([9])).to_pylist() == [{"id": 9, "name": "d", "more": "x"}]
    assert manifest(store)["about"] == {"k": 1}


def test_files_of_the_owner_stay_and_are_checked(tmp_path: Path) -> None:
    (tmp_path / "network.ckpt").write_bytes(b"network")
    (tmp_path / "vectors-notes.txt").write_bytes(b"mine")
    items, structure = pa.table({"id": pa.array([], pa.int64())}), {"wanted": "flat", "lists": None}
    with held(tmp_path, 0, "making it"):
        writing.begin(tmp_path, 6, ["network.ckpt"], items, [], {"a": 1}, structure)
    store = FaissFolder(tmp_path)
    store.add(np.array([0]), vectors_of(1), pa.table({"name": ["a"]}))
    assert "network.ckpt" in manifest(store)["files"]
    assert (tmp_path / "vectors-notes.txt").exists()
    (tmp_path / "network.ckpt").write_bytes(b"netwxrk")
    with pytest.raises(InputError, match=r"network\.ckpt"):
        FaissFolder(tmp_path)


def test_a_folder_without_an_index(tmp_path: Path) -> None:
    with says(
        f"no index at {tmp_path.resolve()}. Build one: lookalike index build images=photos "
        f"out={tmp_path} model=mobilenet_v2"
    ):
        parsed(tmp_path)
    (tmp_path / "network.ckpt").touch()
    with says(
        f"the index at {tmp_path.resolve()} is not built yet. Run `lookalike index build` again "
        "with the same arguments: it goes on where it stopped."
    ):
        parsed(tmp_path)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda said: said | {"kind": "photo album"}, "it is of another kind"),
        (lambda said: {n: v for n, v in said.items() if n != "kind"}, "'kind'"),
        (lambda said: {n: v for n, v in said.items() if n != "format"}, "'format'"),
        (lambda said: {n: v for n, v in said.items() if n != "versions"}, "'versions'"),
        (
            lambda said: said | {"files": {"../x": [1, []]}},
            "it names a file in another folder",
        ),
    ],
)
def test_another_manifest(store: FaissFolder, change: Any, reason: str) -> None:
    (store.folder / "manifest.json").write_text(json.dumps(change(manifest(store))))
    with says(
        f"the index at {store.folder} is damaged: manifest.json is no manifest of an index: "
        f"{reason}. {ADVICE}"
    ):
        parsed(store.folder)


def test_a_newer_format(store: FaissFolder) -> None:
    (store.folder / "manifest.json").write_text(json.dumps(manifest(store) | {"format": 7}))
    with says(f"{store.folder} comes from a newer lookalike (format 7): upgrade lookalike"):
        read_generation(store.folder)


def test_another_content(store: FaissFolder) -> None:
    file = store.folder / "vectors-000001.f32"
    content = file.read_bytes()
    file.write_bytes(b"x" + content[1:])
    for opened in (lambda: FaissFolder(store.folder), store.check):
        with says(
            f"the index at {store.folder} is damaged: vectors-000001.f32 differs from its "
            f"checksum. {ADVICE}"
        ):
            opened()
    file.write_bytes(content[:-1])
    with says(
        f"the index at {store.folder} is damaged: vectors-000001.f32 has 47 bytes, expected 48. "
        f"{ADVICE}"
    ):
        FaissFolder(store.folder)


def test_a_missing_file(store: FaissFolder) -> None:
    (store.folder / "vectors-000001.f32").unlink()
    with says(f"the index at {store.folder} is damaged: vectors-000001.f32 is missing. {ADVICE}"):
        read_generation(store.folder)


def test_an_index_that_changes_all_the_time(
    store: FaissFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    said, numbers = manifest(store), iter(range(1, 99))
    (store.folder / "vectors-000001.f32").unlink()

    def moving(folder: Path) -> Any:
        again = said | {"number": next(numbers)}
        again = {n: v for n, v in again.items() if n not in ("kind", "format", "versions")}
        return generation.Generation(**again)

    monkeypatch.setattr(generation, "parsed", moving)
    with says(f"{store.folder} changes all the time. Wait until its writers are done."):
        read_generation(store.folder)
    assert next(numbers) == 9  # it looked four times, and at who wrote it


def test_readers_try_again_while_a_writer_removes_files(
    store: FaissFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, calls = FaissFolder._open, []

    def slow(self: FaissFolder, found: Any) -> None:
        calls.append(found.number)
        if len(calls) < 4:
            raise FileNotFoundError
        read(self, found)

    monkeypatch.setattr(FaissFolder, "_open", slow)
    assert FaissFolder(store.folder).ids.tolist() == [3, 5]
    assert len(calls) == 4


def test_items_are_whole_and_of_the_right_number(tmp_path: Path) -> None:
    file, items = tmp_path / "items.parquet", pa.table({"id": [1, 2], "name": ["a", None]})
    write_items(file, items)
    assert read_items(file, 2).equals(items)
    from pyarrow import parquet

    column = parquet.ParquetFile(file).metadata.row_group(0).column(0)
    assert column.compression == "ZSTD"
    with says(f"{file} has 2 items, expected 3: build it again."):
        read_items(file, 3)
    write_items(file, items.rename_columns(["key", "name"]))
    with says(f"{file} has 2 items, expected 2: build it again."):
        read_items(file, 2)
    file.write_bytes(b"PAR1 of something else")
    with pytest.raises(InputError) as caught:
        read_items(file, 2)
    assert str(caught.value).startswith(f"{file} can't be read as items of an index (")
    assert str(caught.value).endswith(f"). {ADVICE.replace('Copy it', 'Copy the index')}")
    with pytest.raises(FileNotFoundError):
        read_items(tmp_path / "none.parquet", 2)


def test_vectors_are_float32_without_a_head(tmp_path: Path) -> None:
    file, vectors = tmp_path / "vectors.f32", vectors_of(5)
    write_vectors(file, [vectors[:1], vectors[1:3].astype(np.float64)])
    assert file.read_bytes() == vectors[:3].tobytes()
    file.write_bytes(file.read_bytes() + b"of a writer that was killed, longer than a vector")
    append_vectors(file, (3, 6), [np.asfortranarray(vectors[3:])])
    assert file.read_bytes() == vectors.tobytes()
    np.testing.assert_array_equal(open_vectors(file, (4, 6)), vectors[:4])
    assert open_vectors(tmp_path / "none", (0, 6)).shape == (0, 6)
    assert open_vectors(tmp_path / "none", (0, 6)).dtype == np.float32
    with pytest.raises(ValueError, match="read-only"):
        open_vectors(file, (4, 6))[0] = 0
    for bad in (np.nan, np.inf):
        with says(
            "the network gives NaN or infinity for some images: its training has diverged. Use an "
            "earlier checkpoint, or train again with a lower learning rate."
        ):
            write_vectors(file, [vectors, np.full((1, 6), bad, np.float32)])
    assert file.read_bytes() == vectors.tobytes()


def test_another_writer_is_named(store: FaissFolder) -> None:
    who = f"process {os.getpid()} on {platform.node()}, adding photographs"
    who = who.removeprefix("process ")
    with held(store.folder, 0, "adding photographs"):
        for holder, told in (
            (None, f"another process ({who})"),
            ("{}", "another process"),
            ("no JSON", "another process"),
            ("[1]", "another process"),
        ):
            if holder:
                (store.folder / ".writer").write_text(holder)
            with says(
                f"{told} holds {store.folder}. Wait until it has ended, or give wait=<seconds>, "
                "more than 0.05."
            ), held(store.folder, 0.05, "another"):  # fmt: skip
                pass
        (store.folder / ".writer").unlink()
        with pytest.raises(InputError, match=r"^another process holds "), \
             held(store.folder, 0, "another"):  # fmt: skip
            pass
    assert not (store.folder / ".writer").exists()
    with held(store.folder, 0, "the next"):
        assert json.loads((store.folder / ".writer").read_text())["purpose"] == "the next"


def test_a_change_says_what_it_is_for(store: FaissFolder) -> None:
    with store.alone():
        assert json.loads((store.folder / ".writer").read_text()) == {
            "process": os.getpid(), "machine": platform.node(), "purpose": "changing it",
        }  # fmt: skip
    with store.alone(purpose="tuning it"):
        assert json.loads((store.folder / ".writer").read_text())["purpose"] == "tuning it"


def test_a_folder_that_may_not_be_written_to(
    store: FaissFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    import filelock

    def refused(self: Any, timeout: float) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(filelock.FileLock, "acquire", refused)
    with says(
        f"can't write {store.folder}: Permission denied. Give an index that you may write to, or "
        "copy it."
    ), held(store.folder, 0, "changing it"):  # fmt: skip
        pass


def test_vectors_keep_their_ids_in_any_order(
    store: FaissFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Vectors that are moved are taken in blocks; one of these may hold old and new ones."""
    in_order = writing._in_order
    monkeypatch.setattr(writing, "_in_order", lambda *given: in_order(*given, step=4))
    held_vectors = dict(zip([3, 5], vectors_of(2), strict=True))
    for seed, ids in ((1, [0, 4, 20]), (2, [1, 6, 7, 8, 19, 21])):
        new = vectors_of(len(ids), seed)
        store.add(np.array(ids), new, pa.table({"name": [str(each) for each in ids]}))
        held_vectors |= dict(zip(ids, new, strict=True))
        assert store.ids.tolist() == sorted(held_vectors)
        for row, number in enumerate(store.ids.tolist()):
            np.testing.assert_array_equal(store.vectors[row], held_vectors[number])
    names = store.columns["name"].to_pylist()
    assert names == ["0", "1", "a", "4", "b", "6", "7", "8", "19", "20", "21"]
    store.check()


def test_a_new_index_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(
        "lookalike.retrieval.faiss_folder.held", lambda *given: asked.append(given) or held(*given)
    )
    (tmp_path / "there").mkdir()
    for place in (tmp_path / "there", tmp_path / "a" / "b"):
        store = FaissFolder.create(place, 6)
        assert (len(store), store.vectors.shape) == (0, (0, 6))
    assert asked == [(tmp_path / "there", 0, "making it"), (tmp_path / "a" / "b", 0, "making it")]
    device: Any = SimpleNamespace(type="cuda")
    assert FaissFolder.create(tmp_path / "on", 6, device=device).device is device
    asked.clear()
    store.add(np.array([0]), vectors_of(1), pa.table({"name": ["a"]}))
    assert asked == [(tmp_path / "a" / "b", 10.0, "changing it")]


def test_columns_may_hold_ids_already_and_ids_come_first(store: FaissFolder) -> None:
    columns = pa.table({"name": ["c"], "id": pa.array([99], pa.int32())})
    store.add(np.array([8]), vectors_of(1, 1), columns)
    assert store.columns.column_names == ["id", "name"]
    assert store.columns["id"].type == pa.int64()
    assert store.items(np.array([8])).to_pylist() == [{"id": 8, "name": "c"}]


def test_distances_before_normalisation(store: FaissFolder) -> None:
    lengths = pa.array([2.0, 0.5, 3.0], pa.float32())
    new = vectors_of(1, 7)
    with store.alone():
        items = pa.table({"id": [9], "name": ["c"]})
        store.change(np.zeros(0, np.int64), items, [new])
        other = store.columns.append_column("length", lengths)
        store.change(np.zeros(0, np.int64), other.slice(0, 0), [], before=other)
    whole = np.concatenate([vectors_of(2), new]) * lengths.to_numpy()[:, None]
    query = vectors_of(1, 8) * 2
    distance = np.linalg.norm(whole - query, axis=1)
    rows, scores = store.closest(query, 2)
    assert rows.tolist() == [np.argsort(distance)[:2].tolist()]
    np.testing.assert_allclose(scores, [-np.sort(distance)[:2]], rtol=1e-6)
    rows, scores = store.closest(query, 3, np.array([True, False, True]))
    assert sorted(rows[0].tolist()) == [0, 2]
    assert store.exactly(vectors_of(1, 7), 1)[0].tolist() == [[2]]


def test_files_are_closed(store: FaissFolder) -> None:
    store.close()
    assert not hasattr(store, "vectors")
