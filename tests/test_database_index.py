"""An index whose vectors are in a database finds what an index in a folder finds."""

import csv
import json
import shutil
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lookalike import Index
from lookalike.errors import InputError
from lookalike.inference.database_index import DatabaseIndex
from test_export import needs_onnxruntime
from test_index_network import saved_twice

Cli = Callable[..., Any]
# the clients have warnings of their own
pytestmark = [needs_onnxruntime, pytest.mark.filterwarnings("ignore")]
WORKERS = ("num_workers=0", "device=cpu")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return saved_twice(tmp_path_factory.mktemp("networks"))


@pytest.fixture(
    params=[
        pytest.param("qdrant", marks=pytest.mark.skipif(not find_spec("qdrant_client"), reason="")),
        pytest.param(
            "milvus",
            marks=[pytest.mark.slow, pytest.mark.skipif(not find_spec("milvus_lite"), reason="")],
        ),
    ]
)
def store(request: pytest.FixtureRequest) -> list[str]:
    return [f"store={request.param}", "store.uri=vectors.db"]


def matches(run: str) -> list[list[dict[str, Any]]]:
    return [each["matches"] for each in json.loads(Path(run, "matches.json").read_text())]


@pytest.mark.slow
def test_the_verbs_find_what_an_index_in_a_folder_finds(
    cli: Cli, store: list[str], files: tuple[Path, Path], photos: Path, capsys: Any
) -> None:
    network = f"checkpoint={files[0]}"
    build = ("index", "action=build", f"images={photos}", network, *WORKERS)
    assert cli(*build, "out=d", *store) == 96
    assert "vectors.db" in capsys.readouterr().out
    assert cli(*build, "out=f") == 96
    query = (f"images={photos / 'class03'}", "k=3", *WORKERS)
    asked = {
        "": (),
        "filtered": ("where=class in ('class01', 'class02')",),
        "class": ("class=class05",),
        "high": ("threshold=0.999",),
        "other": (f"negatives={photos / 'class01'}",),
    }
    for name, given in asked.items():
        for index in "df":
            cli("search", f"index={index}", *query, *given, f"hydra.run.dir={index}{name}")
        for one, other in zip(matches(f"d{name}"), matches(f"f{name}"), strict=True):
            by_cosine = {m["path"]: m for m in other if m["cosine_rank"]}
            assert {m["path"] for m in one} == set(by_cosine)
            for match in one:
                expected = by_cosine[match["path"]]
                assert match["cosine"] == pytest.approx(expected["cosine"], abs=1e-5)
                assert match["euclidean"] == pytest.approx(expected["euclidean"], abs=1e-2)
    assert list(csv.DictReader(Path("d", "matches.csv").read_text().splitlines()))
    Image.new("RGB", (30, 30), "red").save(photos / "red.png")
    assert cli("index", "action=add", "index=d", f"images={photos / 'red.png'}", *WORKERS) == {
        "added": 1
    }
    removed = cli("index", "action=remove", "index=d", "where=class == 'class00'")
    assert removed == {"removed": 6, "left": 91}
    about = cli("index", "action=info", "index=d")
    assert (about["images"], about["dimensions"]) == (91, 16)
    assert str(files[0].parent) not in Path("d/database.json").read_text()
    for given, message in [
        (["index", "action=add", "index=d", f"images={photos / 'red.png'}"], "was added before"),
        (["index", "action=update", "index=d"], "are in a database"),
        (["index", "action=remove", "index=d"], "say what to remove"),
        (["search", "index=d", *query, "fold_duplicates=true"], "need the vectors"),
        (["search", "index=d", *query, "within=predicted"], "does not tell its classes"),
        (["duplicates", "index=d"], "are in a database"),
        ([*build, "out=d", *store], "there is an index at d already"),
        ([*build, "out=e", store[0]], "give the place of the database"),
        ([*build, "out=e", *store, "store.url=x"], "url"),
    ]:
        with pytest.raises(SystemExit):
            cli(*given)
        assert message in " ".join(capsys.readouterr().err.split())


def test_parts_become_an_index_wherever_it_is(
    cli: Cli, store: list[str], files: tuple[Path, Path], photos: Path, capsys: Any
) -> None:
    checkpoint, onnx = (f"checkpoint={file}" for file in files)
    cli("embed", f"images={photos}", "out=parts", checkpoint, "part_size=40", "device=cpu")
    assert cli("index", "action=build", "vectors=parts", "out=d", onnx, *store, *WORKERS) == 96
    assert cli("index", "action=build", "vectors=parts", "out=f", onnx, *WORKERS) == 96
    built = Index.build(photos, "g", files[0], "cpu")
    index = Index.load("f", "cpu")
    index.check()
    assert index.items["path"].to_pylist() == built.items["path"].to_pylist()
    for name in ("class", "file_size", "file_time", "right"):
        assert index.items[name].to_pylist() == built.items[name].to_pylist()
    np.testing.assert_allclose(index.items["length"], built.items["length"], rtol=1e-4)
    np.testing.assert_allclose(index.store.vectors, built.store.vectors, atol=1e-5)
    database = DatabaseIndex.load("d", "cpu")
    ids, scores = database.store.search(index.store.vectors[::9].copy(), 5)
    expected, similarities = index.store.search(index.store.vectors[::9].copy(), 5)
    np.testing.assert_array_equal(np.sort(ids, axis=1), np.sort(expected, axis=1))
    np.testing.assert_allclose(scores, similarities, atol=1e-5)
    database.close()
    with pytest.raises(InputError, match="built from vectors="):
        index.update()
    shutil.rmtree("d")
    for given, message in [
        (["vectors=parts", "images=photos"], "give images="),
        (["vectors=photos"], "holds no parts"),
        (["vectors=parts", "model=mobilenet_v2"], "give what embeds"),
    ]:
        with pytest.raises(SystemExit):
            cli("index", "action=build", "out=h", onnx, *given)
        assert message in " ".join(capsys.readouterr().err.split())


def test_parts_of_another_network_are_refused(
    cli: Cli, files: tuple[Path, Path], photos: Path, capsys: Any
) -> None:
    plan = {"fingerprint": "0" * 16, "name": "other", "parts": 1}
    Path("parts").mkdir()
    Path("parts/embedding.json").write_text(json.dumps(plan))
    with pytest.raises(SystemExit):
        cli("index", "action=build", "out=h", "vectors=parts", f"checkpoint={files[0]}")
    assert "made by another network (other)" in capsys.readouterr().err


def test_a_folder_does_not_decide_what_code_runs(
    cli: Cli, files: tuple[Path, Path], photos: Path
) -> None:
    network = f"checkpoint={files[0]}"
    place = ("store=qdrant", "store.uri=q")
    cli("index", "action=build", f"images={photos}", "out=d", network, *place, *WORKERS)
    file = Path("d/database.json")
    file.write_text(file.read_text().replace("lookalike.retrieval.qdrant.QdrantStore", "os.system"))
    with pytest.raises(InputError, match=r"names os\.system"):
        DatabaseIndex.load("d", "cpu")
