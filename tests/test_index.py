"""The saved index: what it finds, how it changes, and what happens to what does not fit."""

import csv
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from conftest import CHECKOUT
from lookalike import Index, load_embedder
from lookalike.config import build
from lookalike.data.measuring import MeasuredImages
from lookalike.data.sources.folder import Folder
from lookalike.errors import InputError
from lookalike.evaluation.scoring import measure
from lookalike.inference import streaming
from lookalike.inference.checkpoint import read_checkpoint
from lookalike.inference.combining import combined
from lookalike.inference.embedding_items import Reading
from lookalike.inference.pretrained import pretrained_content
from lookalike.models.siamese import siamese_backbone
from lookalike.retrieval.embeddings import embed
from lookalike.retrieval.rerank import KReciprocal, QueryExpansion
from processes import one_thread

Cli = Callable[..., Any]
FIXTURE = CHECKOUT / "tests" / "fixtures" / "index_format_1"
SIAMESE = {"channels": [4], "hidden": [8], "image_size": 20, "mean": [0.5] * 3, "std": [0.5] * 3}


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("weights") / "siamese.pth"
    torch.save(siamese_backbone(**SIAMESE).network.state_dict(), file)
    return file


@pytest.fixture(scope="session")
def network(weights: Path) -> dict[str, Any]:
    """A tiny network in the format of a checkpoint."""
    backbone = {
        "_target_": "lookalike.models.siamese.siamese_backbone", "weights": str(weights), **SIAMESE,
    }  # fmt: skip
    return pretrained_content(backbone, {"_target_": "lookalike.models.pooling.AveragePooling"})


@pytest.fixture
def index(photos: Path, network: dict[str, Any], tmp_path: Path) -> Index:
    return Index.build(photos, tmp_path / "photos.index", network, "cpu")


def test_an_index_of_format_1_opens(tmp_path: Path) -> None:
    """Of its first version: 4 photographs each of oak and pine, which lie elsewhere by now."""
    folder = shutil.copytree(FIXTURE, tmp_path / "trees.index")
    index = Index.load(folder, "cpu")
    index.check()
    assert index.info()["fingerprint"] == "f290b8af9caaa699"
    assert len(index) == 8
    (found,) = index.search_vectors(index.vector(2), k=3)
    assert [(hit.id, hit.class_name) for hit in found] == [(2, "oak"), (0, "oak"), (3, "oak")]
    scores = [1, 0.8728, 0.7892]  # by the version that built it
    assert [hit.score for hit in found] == pytest.approx(scores, abs=1e-4)
    assert index.path(5) == Path("/photos/pine/1.png")
    image = np.arange(24 * 24 * 3).reshape(24, 24, 3) % 251
    (vector,) = index.embed(Image.fromarray(image.astype(np.uint8)))
    expected = [0, 0, 0, 0, 0.5159, 0, 0.8206, 0.2457]
    assert vector.tolist() == pytest.approx(expected, abs=2e-2)  # torch 2.6 resizes otherwise
    index.remove(where="class == 'pine'")
    assert len(Index.load(folder, "cpu")) == 4


def test_it_finds_what_a_loop_over_all_images_finds(index: Index, photos: Path) -> None:
    paths = sorted(photos.glob("*/*.png"))
    vectors = load_embedder(index.store.folder / "network.ckpt")(paths)
    assert len(index) == len(paths) == 96
    asked = paths[::17]
    hits = index.search(asked, k=4)
    filtered = index.search(asked, k=4, where="class in ('class03', 'class05')")
    within = index.search(asked, k=4, within="class07")
    for query, *found in zip(asked, hits, filtered, within, strict=True):
        scores = vectors @ vectors[paths.index(query)]
        order = [row for row in np.argsort(-scores, kind="stable") if paths[row] != query]
        for some, classes in zip(found, (None, ("class03", "class05"), ("class07",)), strict=True):
            expected = [r for r in order if classes is None or paths[r].parent.name in classes][:4]
            assert [index.path(hit.id) for hit in some] == [paths[row] for row in expected]
            assert [hit.rank for hit in some] == [1, 2, 3, 4]
            np.testing.assert_allclose([h.score for h in some], scores[expected], atol=1e-5)
    assert [h.class_name for h in hits[0]] == [index.path(h.id).parent.name for h in hits[0]]


def test_threshold_more_than_there_are_and_vectors(index: Index, photos: Path) -> None:
    path = photos / "class00" / "0.png"
    everything = index.search(path, k=500)[0]
    assert len(everything) == 95
    middle = everything[40].score
    assert len(index.search(path, k=500, threshold=middle)[0]) == 41
    by_vector = index.search_vectors(index.embed(path), k=1)[0][0]
    assert index.path(by_vector.id) == path  # a vector may find any item
    assert by_vector.score == pytest.approx(1)
    assert index.search_vectors(index.vector(7), k=1, exclude=[{7}])[0][0].id != 7
    for wrong in ({"k": 0}, {"threshold": 1.5}, {"where": "nope = 1"}, {"within": "clas00"}):
        with pytest.raises(InputError):
            index.search(path, **wrong)
    with pytest.raises(InputError, match="of another network"):
        index.search_vectors(np.ones((1, 3), np.float32))


def test_positives_and_negatives_make_one_query(index: Index, photos: Path) -> None:
    good = [photos / "class00" / f"{n}.png" for n in (0, 1)]
    bad = [photos / "class05" / "0.png"]
    (found,) = index.search(good, k=90, combine=True, negatives=bad)
    vector = index.embed(good).mean(0) - 0.25 * index.embed(bad).mean(0)
    vector /= np.linalg.norm(vector)
    np.testing.assert_allclose(
        [hit.score for hit in found], [index.vector(hit.id) @ vector for hit in found], atol=1e-6
    )
    assert not {index.path(hit.id) for hit in found} & {*good, *bad}
    with pytest.raises(InputError, match="cancel each other"):
        combined(np.eye(2, dtype=np.float32)[:1], 4 * np.eye(2, dtype=np.float32)[:1])


def test_duplicates_are_folded_and_reranking_orders(index: Index, photos: Path) -> None:
    query, hit = photos / "class02" / "0.png", index.search(photos / "class02" / "0.png", k=1)[0][0]
    best = index.path(hit.id)
    shutil.copy(best, photos / "class02" / "copy.png")
    index.update()
    plain = index.search(query, k=500)[0]
    folded = index.search(query, k=500, fold_duplicates=True)[0]
    assert len(folded) + sum(len(h.copies) for h in folded) == len(plain)
    for one in folded:  # each copy is near to the hit it was folded into
        assert all(index.vector(n) @ index.vector(one.id) >= 0.95 - 1e-6 for n in one.copies)
    (three,) = index.search(query, k=3, fold_duplicates=True)
    assert [h.id for h in three] == [h.id for h in folded[:3]]
    for rerank in (KReciprocal(k1=5, k2=2), QueryExpansion()):
        (ordered,) = index.search(query, k=5, rerank=rerank)
        assert len(ordered) == 5
        assert str(query) not in {str(index.path(h.id)) for h in ordered}


def test_hits_show_and_export_themselves(index: Index, photos: Path) -> None:
    asked = [photos / "class00" / "0.png", photos / "class01" / "0.png"]
    hits = index.search(asked, k=2)
    assert str(asked[0]) in repr(hits)
    assert f"{hits[1][0].score:.4f}" in repr(hits)
    html = hits._repr_html_()
    assert html.count("data:image/jpeg;base64,") == 4
    assert json.loads(hits.to_json())[1]["hits"][0]["id"] == hits[1][0].id
    rows = list(csv.DictReader(hits.to_csv().splitlines()))
    assert [row["rank"] for row in rows] == ["1", "2", "1", "2"]
    pandas = pytest.importorskip("pandas")
    frame = hits.to_dataframe()
    assert isinstance(frame, pandas.DataFrame)
    assert frame["score"].tolist() == pytest.approx(
        [h.score for some in hits for h in some], abs=1e-6
    )


def test_add_remove_and_update(index: Index, photos: Path, tmp_path: Path) -> None:
    more = tmp_path / "more"
    more.mkdir()
    Image.new("RGB", (30, 30), "red").save(more / "red.png")
    (more / "broken.png").write_bytes(b"no image")
    assert index.add(more) == {"added": 1, "changed": 0, "removed": 0, "unchanged": 0}
    assert index.add(more)["unchanged"] == 1
    assert index.items["path"][-1].as_py() == str(more / "red.png")
    red = int(index.store.ids[-1])
    assert index.remove(ids=[red], where="class == ''") == {"removed": 1, "left": 96}
    assert index.remove(where="class == 'class00'")["removed"] == 6

    with pytest.raises(InputError, match="no item has the id"):
        index.remove(ids=[red])
    with pytest.raises(InputError, match="say what to remove"):
        index.remove()
    changed, touched, gone = (photos / "class01" / f"{n}.png" for n in range(3))
    Image.new("RGB", (30, 30), "blue").save(changed)
    os.utime(touched, (1, 1))
    gone.unlink()
    ids = {index.path(int(n)): int(n) for n in index.store.ids}
    counts = index.update()
    assert counts == {"added": 7, "changed": 1, "removed": 1, "unchanged": 88}
    assert index.update() == {"added": 0, "changed": 0, "removed": 0, "unchanged": 96}
    after = {index.path(int(n)): int(n) for n in index.store.ids}
    assert gone not in after
    assert after[changed] == ids[changed]  # its id stays
    assert red not in [number for path, number in after.items() if path != more / "red.png"]
    assert len(set(after.values())) == len(index)
    index.check()
    fresh = load_embedder(index.store.folder / "network.ckpt")(list(after))
    np.testing.assert_allclose(
        [index.vector(number) for number in after.values()], fresh, atol=1e-5
    )


def test_columns_of_a_table_stay_when_a_folder_is_added(
    network: dict[str, Any], photos: Path, tmp_path: Path
) -> None:
    table = tmp_path / "table.csv"
    lines = [f"{photos}/class0{c}/{n}.png,class0{c},{10 * c + n},1,2,30,31" for c in range(3)
             for n in range(3)]  # fmt: skip
    table.write_text("path,label,price,left,top,right,bottom\n" + "\n".join(lines) + "\n")
    index = Index.build(table, tmp_path / "t.index", network, "cpu")
    (hits,) = index.search(photos / "class01" / "0.png", k=9, where="price < 12 and price >= 10")
    assert sorted(hit.columns["price"] for hit in hits) == [10, 11]
    assert index.image(hits[0].id).size == (29, 29)
    index.add(photos / "class00")
    assert index.items["price"].null_count == 6
    table.write_text(table.read_text().replace("class00,0,", "class00,77,"))
    assert index.update()["unchanged"] == 15
    assert index.items["price"][0].as_py() == 77
    bad = tmp_path / "bad.csv"
    bad.write_text(f"path,sha256\n{photos}/class00/0.png,1\n")
    with pytest.raises(InputError, match="column 'sha256', a name that an index needs"):
        index.add(bad)


def test_images_that_have_moved(index: Index, photos: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    photos.rename(moved)
    with pytest.raises(InputError, match=r"is missing.*root=<folder>"):
        index.image(0)
    again = Index.load(index.store.folder, root=moved)
    assert again.image(0).size == (48, 40)
    assert again.update()["unchanged"] == 96
    assert Index.load(index.store.folder).path(0).is_relative_to(moved)


def test_a_build_that_stopped_goes_on(
    photos: Path, network: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    original = streaming.read_with_facts

    def counted(path: Path) -> Any:
        if len(read) == 50:
            raise KeyboardInterrupt
        read.append(str(path))
        return original(path)

    monkeypatch.setattr(streaming, "read_with_facts", counted)
    folder, reading = tmp_path / "i", Reading(batch_size=8, kept_after=16)
    with pytest.raises(KeyboardInterrupt):
        Index.build(photos, folder, network, "cpu", reading=reading)
    with pytest.raises(InputError, match="not built yet"):
        Index.load(folder)
    first = len(read)
    read.clear()
    monkeypatch.setattr(
        streaming, "read_with_facts", lambda p: (read.append(str(p)), original(p))[1]
    )
    index = Index.build(photos, folder, network, "cpu", reading=reading)
    assert first == 50
    assert len(read) == 96 - 48
    assert sorted(index.items["path"].to_pylist()) == sorted(
        str(path.relative_to(photos)) for path in photos.glob("*/*.png")
    )
    assert not (folder / "parts").exists()
    other = network | {"state_dict": {k: v + 1 for k, v in network["state_dict"].items()}}
    (tmp_path / "j").mkdir()
    shutil.copy(folder / "network.ckpt", tmp_path / "j")
    with pytest.raises(InputError, match="begun with another network"):
        Index.build(photos, tmp_path / "j", other, "cpu")


def test_bad_input_is_one_line(
    index: Index, photos: Path, network: dict[str, Any], tmp_path: Path
) -> None:
    empty, text = tmp_path / "empty", tmp_path / "text"
    empty.mkdir()
    text.mkdir()
    (text / "a.png").write_text("no image")
    for call, message in [
        (lambda: Index.load(tmp_path / "nothing"), "no index at"),
        (lambda: Index.build(empty, tmp_path / "x", network), "no images"),
        (lambda: Index.build(text, tmp_path / "x2", network), "can't be read"),
        (lambda: Index.build(photos, index.store.folder, network), "an index at .* already"),
        (lambda: Index.build(photos, photos, network), "holds other files"),
        (lambda: Index.build(photos, tmp_path / "x3", text / "a.png"), "can't be read as a check"),
        (lambda: Index.build(photos, tmp_path / "x4", network, kind="hnsw"), "one of auto, flat"),
        (lambda: index.search(text / "a.png"), "a.png"),
        (lambda: index.add(empty), "no images"),
        (lambda: index.image(999), "no item has the id 999"),
    ]:
        with pytest.raises(InputError, match=message):
            call()
    (index.store.folder / "network.ckpt").write_bytes(b"x" * 5)
    with pytest.raises(InputError, match="damaged"):
        Index.load(index.store.folder)


def found_in(file: str) -> list[list[Any]]:
    """The rows of a table of matches; its scores may differ by the rounding of another batch."""
    rows = csv.DictReader(Path(file).read_text().splitlines())
    scores = ("cosine", "euclidean")
    return [
        [pytest.approx(float(v), abs=1e-5) if k in scores else v for k, v in row.items()]
        for row in rows
    ]


def test_the_verbs(cli: Cli, photos: Path, weights: Path, class_folders: Path, capsys: Any) -> None:
    backbone = ["backbone=siamese", f"backbone.weights={weights}", "backbone.image_size=20",
                "backbone.channels=[4]", "backbone.hidden=[8]"]  # fmt: skip
    workers = ["num_workers=0", "device=cpu"]
    assert cli("index", "action=build", f"images={photos}", "out=i", *backbone, *workers) == 96
    query = photos / "class03" / "2.png"
    by_index = ["index=i", f"images={query}", "k=3", "num_workers=0"]
    assert cli("search", *by_index, "hydra.run.dir=a") == 1
    assert cli("search", f"gallery={photos}", f"images={query}", "k=3", *backbone,
               "num_workers=0", "hydra.run.dir=b") == 1  # fmt: skip
    assert found_in("a/matches.csv") == found_in("b/matches.csv")
    described = json.loads(Path("a/matches.json").read_text())[0]["matches"]
    assert {"id", "path", "cosine", "euclidean_rank"} <= set(described[0])
    cli("search", *by_index, "where=class in ('class01', 'class02')", "hydra.run.dir=c")
    rows = list(csv.DictReader(Path("c/matches.csv").read_text().splitlines()))
    assert {row["class_name"] for row in rows} <= {"class01", "class02"}
    cli("search", *by_index, f"negatives={photos / 'class01'}", "fold_duplicates=true",
        "rerank=average_expansion", "class=class03", "hydra.run.dir=d")  # fmt: skip
    rows = list(csv.DictReader(Path("d/matches.csv").read_text().splitlines()))
    assert {row["class_name"] for row in rows} == {"class03"}
    assert {row["euclidean_rank"] for row in rows} == {""}

    shutil.copy(query, photos / "class03" / "same.png")
    assert cli("index", "action=update", "index=i", *workers)["added"] == 1
    assert cli("duplicates", "index=i", "threshold=0.99999", "hydra.run.dir=e") >= 1
    listed = list(csv.DictReader(Path("e/duplicates.csv").read_text().splitlines()))
    pair = next(row for row in listed if row["same_content"] == "True")
    assert {Path(pair["path"]).name, Path(pair["kept"]).name} == {"2.png", "same.png"}
    assert Path("e/duplicates.png").stat().st_size > 1000
    removed = cli("index", "action=remove", "index=i", "where=class == 'class00'", *workers)
    assert removed == {"removed": 6, "left": 91}
    assert cli("index", "action=info", "index=i")["images"] == 91
    assert cli("index", "action=check", "index=i") == 91
    assert cli("index", "action=tune", "index=i", "hydra.run.dir=f") == 0
    assert "nothing to tune" in capsys.readouterr().out.replace("\n", " ")
    for given, message in [
        (["index", "action=biuld"], "Did you mean build"),
        (["index", "action=add", "images=x"], "give the folder"),
        (["index", "action=build", f"images={photos}", "out=j"], "give what embeds"),
        (
            ["search", f"images={query}", f"gallery={photos}", *backbone, "where=x=1"],
            "needs an index",
        ),
        (["search", f"images={query}", "index=i", f"gallery={photos}"], "leave out"),
    ]:
        with pytest.raises(SystemExit):
            cli(*given)
        assert message in " ".join(capsys.readouterr().err.split())


@pytest.mark.slow
def test_an_index_of_a_checkpoint_votes_on_the_class_and_refuses_another_network(
    cli: Cli, tiny: tuple[str, ...], class_folders: Path, capsys: Any
) -> None:
    kept = [o for o in tiny if "images_per_class" not in o]
    for seed in (0, 1):
        cli("train", *kept, "loss=softmax", "sampler=uniform", "miner=none", f"seed={seed}",
            "evaluation.before_training=false", f"hydra.run.dir=run{seed}")  # fmt: skip
    one, other = (f"run{seed}/checkpoints/best.ckpt" for seed in (0, 1))
    cli("index", "action=build", f"images={class_folders}", "out=i", f"checkpoint={one}",
        "num_workers=0")  # fmt: skip
    query = f"images={class_folders / 'class05'}"
    cli("search", query, f"checkpoint={one}", f"gallery={class_folders}", "num_workers=0",
        "hydra.run.dir=a")  # fmt: skip
    cli("search", query, "index=i", "num_workers=0", "hydra.run.dir=b")
    pd.testing.assert_frame_equal(  # batches of other sizes: the last bits of a sum
        pd.read_csv("a/matches.csv"), pd.read_csv("b/matches.csv"), rtol=1e-5
    )
    cli("search", query, "index=i", f"checkpoint=[{one},{other}]", "num_workers=0")
    with pytest.raises(SystemExit):
        cli("search", query, "index=i", f"checkpoint={other}", "num_workers=0")
    assert "is not the network of i" in capsys.readouterr().err


# A process that has imported everything forks the changes. Half of the kills are at a random time,
# the others inside of writes: the change kills itself at the n-th call that makes a file durable.
KILLING = """
import json, os, random, shutil, signal, sys, time
from pathlib import Path
from PIL import Image
import lookalike.retrieval.rerank
from lookalike import Index, InputError
from lookalike.inference.embedding_items import Reading

photos, network, kills = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
changing = photos / "class01"
draw, reading = random.Random(0), Reading(4, 0, 8)

def change(action, folder):
    if action in ("build", "base"):
        images = photos if action == "build" else changing
        Index.build(images, folder, network, "cpu", reading=reading)
        return
    index = Index.load(folder, "cpu")
    index.reading = reading
    if action == "add":
        index.add(photos)
    elif action == "update":
        index.update()
    else:
        index.remove(where="class == 'class01'")

def killing(call, countdown):
    def counted(*given):
        countdown[0] -= 1
        if countdown[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*given)
    return counted

def start(action, folder, writes=None):
    child = os.fork()
    if child == 0:
        if writes is not None:
            countdown = [writes]
            os.fsync, os.replace = killing(os.fsync, countdown), killing(os.replace, countdown)
        change(action, folder)
        os._exit(0)
    return child

def ended(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

bases = {"add": Path("base"), "update": Path("base"), "remove": Path("complete")}
sizes = {"build": (96, 96), "add": (6, 96), "update": (6, 12), "remove": (96, 90)}
began = time.monotonic()
assert ended(start("build", Path("complete"))) == 0
length = time.monotonic() - began
assert ended(start("base", Path("base"))) == 0  # a child: threads do not survive a fork
told = []
while len(told) < kills:
    number = len(told)
    action, folder = list(sizes)[draw.randrange(4)], Path(f"kill{number}")
    if action != "build":
        shutil.copytree(bases[action], folder)
    if action == "update":
        for n in range(6):
            Image.new("RGB", (30, 30), (40 * n, number, 9)).save(changing / f"new{n}.png")
    if draw.random() < 0.5:
        child = start(action, folder, draw.randrange(1, 40 if action == "build" else 14))
    else:
        child = start(action, folder)
        time.sleep(draw.uniform(0, length))
        os.kill(child, signal.SIGKILL)
    killed = ended(child) != 0
    before, after = sizes[action]
    if (folder / "manifest.json").exists():
        opened = Index.load(folder, "cpu")
        opened.check()
        assert len(opened) in (before, after), (action, len(opened))
        state = "new" if len(opened) == after else "old"
    else:
        assert action == "build"
        state = "none"
    if not (action == "build" and state == "new"):
        assert ended(start(action, folder)) == 0, action
    opened = Index.load(folder, "cpu")
    opened.check()
    assert len(opened) == after
    assert len(set(opened.items["path"].to_pylist())) == after
    for extra in changing.glob("new*.png"):
        extra.unlink()
    shutil.rmtree(folder)
    if killed:
        told.append(f"{action} {state}")
print("TOLD", json.dumps(told))
"""


@pytest.mark.slow
def test_kill_at_random_moments(photos: Path, weights: Path, index: Index, tmp_path: Path) -> None:
    """The index opens as the old or the new one, and the same command goes on."""
    (tmp_path / "killed").mkdir()
    shown = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", KILLING, str(photos),
         str(index.store.folder / "network.ckpt"), "50"],
        cwd=tmp_path / "killed", capture_output=True, text=True, env=one_thread(),
    )  # fmt: skip
    assert shown.returncode == 0, shown.stdout + shown.stderr
    told = json.loads(shown.stdout.rpartition("TOLD ")[2])
    assert len(told) == 50
    assert {each.split()[0] for each in told} == {"build", "add", "update", "remove"}
    assert {each.split()[1] for each in told} >= {"old", "none"}


@pytest.mark.real
@pytest.mark.slow
def test_recall_at_1_equals_the_evaluation_s(
    cli: Cli, compose: Any, real_data: Path, real_weights: Path
) -> None:
    """Of the pretrained network on furniture, by search in the index and by the metrics."""
    images = real_data / "furniture" / "val"
    cli("index", "action=build", f"images={images}", "out=i", "model=mobilenet_v2",
        f"model.mobilenet_v2.weights={real_weights}")  # fmt: skip
    checkpoint = read_checkpoint("i/network.ckpt")
    records = Folder(str(images)).records()
    measured = MeasuredImages(records, {"test": checkpoint.transform()})
    embeddings = embed(
        checkpoint.embedder(), measured.loader(records.every_id), torch.device("cpu")
    )
    scores = measure(build(compose("evaluate").evaluation), embeddings, embeddings, records).scores

    index = Index.load("i", "cpu")
    assert len(index) == len(records)
    hits = index.search([index.path(int(number)) for number in index.store.ids], k=1)
    classes = index.items["class"].to_pylist()
    right = [found[0].class_name == name for found, name in zip(hits, classes, strict=True)]
    assert np.mean(right) == scores["recall_at_1"] > 0.9
