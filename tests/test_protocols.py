"""Readers of benchmarks in tiny official layouts, and what is measured on them, another way."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from omegaconf import DictConfig
from PIL import Image

from lookalike.config import build
from lookalike.data.records import Records
from lookalike.data.sources.ilias import Ilias
from lookalike.data.sources.inaturalist import INaturalist
from lookalike.data.sources.landmarks import Landmarks
from lookalike.data.sources.met import Met
from lookalike.data.sources.vehicle_id import VehicleId
from lookalike.data.splits import assign_splits
from lookalike.errors import InputError
from lookalike.evaluation.plan import Evaluation
from lookalike.evaluation.recognition import Recognition, recognition_scores
from lookalike.evaluation.scoring import measure
from lookalike.retrieval.embeddings import Embeddings
from lookalike.retrieval.engines import Engines
from lookalike.training.experiment import Experiment
from test_revisited import draw as draw_revisited

Cli = Callable[..., Any]
Change = Callable[[Path], object]


def picture(file: Path, seed: int = 0) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (20, 24, 3), np.uint8)
    Image.fromarray(pixels).save(file)


def embedded(records: Records, seed: int = 0) -> Embeddings:
    """Random vectors, near those of the same class."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(records.num_classes, 8))
    vectors = centres[records.labels] + rng.normal(size=(len(records), 8))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return Embeddings(vectors.astype(np.float32), records.labels, records.every_id)


def draw_landmarks(root: Path) -> Path:
    """30 gallery images; of 5 queries two are private, two public, one shows no landmark."""
    names = [f"{number:02x}c{number:013x}" for number in range(35)]
    gallery, queries = names[:30], names[30:]
    for part, listed in (("index", gallery), ("test", queries)):
        for number, name in enumerate(listed):
            picture(root / part / name[0] / name[1] / name[2] / f"{name}.jpg", number)
    (root / "index" / "index.csv").write_text("id\n" + "\n".join(gallery) + "\n")
    rows = [
        f"{queries[0]},{' '.join(gallery[:4])},Private",
        f"{queries[1]},{' '.join(gallery[2:9])},Public",
        f"{queries[2]},None,Ignored",
        f"{queries[3]},{gallery[20]},Private",
        f"{queries[4]},{' '.join(gallery[9:12])},Public",
    ]
    solution = root / "test" / "retrieval_solution_v2.1.csv"
    solution.write_text("id,images,Usage\n" + "\n".join(rows) + "\n")
    return root


def test_landmarks(tmp_path: Path) -> None:
    root = draw_landmarks(tmp_path)
    records = Landmarks(str(root)).records()
    assert Counter(records.roles) == {"gallery": 30, "query": 2}
    (judged,) = records.judgements
    assert judged.relevant.all()
    assert list(zip(judged.queries, judged.items, strict=True)) == [
        (30, 0), (30, 1), (30, 2), (30, 3), (31, 20),
    ]  # fmt: skip
    assert len(Landmarks(str(root), "all").records()) == 34
    with pytest.raises(InputError, match="Did you mean Private"):
        Landmarks(str(root), "privat")  # type: ignore[arg-type]


@pytest.mark.parametrize("k", [1, 3, 100])
def test_mean_average_precision_at_k(tmp_path: Path, k: int) -> None:
    """As MeanAveragePrecision of the authors' code counts: hits so far by place, up to k, by the
    number of answers, at most k."""
    records = Landmarks(str(draw_landmarks(tmp_path)), "all").records()
    own = embedded(records)
    plan = Evaluation(map_at=(k,), whole_ranking=False, monitor=f"map_at_{k}")
    (judged,) = records.judgements
    expected = []
    for query in np.flatnonzero(records.roles == "query"):
        answers = set(judged.items[judged.queries == query])
        order = np.argsort(-(own.vectors[:30] @ own.vectors[query]), kind="stable")
        found, total = 0, 0.0
        for place, item in enumerate(order[:k]):
            if item in answers:
                found += 1
                total += found / (place + 1)
        expected.append(total / min(len(answers), k))
    assert measure(plan, own, own, records).scores[f"map_at_{k}"] == pytest.approx(
        np.mean(expected)
    )


def draw_ilias(root: Path) -> Path:
    for number, name in enumerate(("bold_bimp_000", "bold_flep_001", "zippy_zoot_002")):
        for image in range(2):
            folder = root / "ilias_core" / name / "query"
            picture(folder / f"Q{number:03d}_{image:02d}.jpg", image)
            (folder / f"Q{number:03d}_{image:02d}_bbox.txt").write_text("1 1 5 5\n")
        for image in range(3):
            picture(root / "ilias_core" / name / "pos" / f"P{number:03d}_{image:02d}.jpg", image)
        (root / "ilias_core" / name / "query" / f"T{number:03d}.txt").write_text("a thing")
    for image in range(20):
        picture(root / "yfcc100m" / f"{image % 2}" / f"{image}.jpg", image)
    return root


def test_ilias(tmp_path: Path) -> None:
    root = draw_ilias(tmp_path)
    alone = Ilias(str(root)).records()
    assert Counter(alone.roles) == {"gallery": 9, "query": 6}
    assert alone.class_names == ("bold_bimp_000", "bold_flep_001", "zippy_zoot_002")
    whole = Ilias(str(root), str(root / "yfcc100m")).records()
    assert Counter(whole.roles) == {"gallery": 29, "query": 6}
    of_distractors = whole.labels[-20:]
    assert not set(of_distractors) & set(whole.labels[whole.roles == "query"])
    split = assign_splits(whole, "query_gallery")
    own = embedded(split)
    scores = measure(
        Evaluation(map_at=(5,), whole_ranking=False, monitor="map_at_5"), own, own, split
    ).scores
    expected = []
    gallery = split.roles == "gallery"
    for query in np.flatnonzero(~gallery):
        order = np.argsort(-(own.vectors[gallery] @ own.vectors[query]), kind="stable")
        hits = (split.labels[gallery] == split.labels[query])[order]
        precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
        expected.append((precision * hits)[:5].sum() / min(hits.sum(), 5))
    assert scores["map_at_5"] == pytest.approx(np.mean(expected))


def draw_inaturalist(root: Path) -> Path:
    """16 species in alternation for training and test, 4 images each."""
    lists: dict[str, list[str]] = {"train": [], "test": []}
    for species in range(16):
        for image in range(4):
            path = f"train_val2018/{'Aves' if species % 3 else 'Fungi'}/{species}/{image}.jpg"
            lists["test" if species % 2 else "train"].append(path)
            picture(root / path, species * 4 + image)
    folder = root / "Inat_dataset_splits"
    folder.mkdir()
    for split, paths in lists.items():
        (folder / f"Inaturalist_{split}_set1.txt").write_text("\n".join(paths) + "\n")
    return root


def test_inaturalist(tmp_path: Path) -> None:
    root = draw_inaturalist(tmp_path)
    records = INaturalist(str(root)).records()
    assert Counter(records.splits) == {"train": 32, "test": 32}
    assert "Aves/1" in records.class_names
    split = assign_splits(records, "zero_shot")
    names = {split.class_names[label] for label in split.labels[split.ids("test")]}
    assert {int(name.partition("/")[2]) % 2 for name in names} == {1}
    for file in (root / "Inat_dataset_splits").iterdir():  # the lists beside the images
        file.rename(root / file.name)
    (root / "Inat_dataset_splits").rmdir()
    np.testing.assert_array_equal(INaturalist(str(root)).records().labels, records.labels)


def draw_vehicles(root: Path) -> Path:
    """20 vehicles for training, 8 and more for the tests, 3 images each."""
    number = 0
    lists = {"train_list": range(1, 21), "test_list_800": range(21, 29)}
    lists |= {"test_list_1600": range(21, 33), "test_list_2400": range(21, 37)}
    images: dict[int, list[str]] = {}
    for vehicle in range(1, 37):
        for _ in range(3):
            number += 1
            images.setdefault(vehicle, []).append(f"{number:07d}")
            picture(root / "image" / f"{number:07d}.jpg", number)
    folder = root / "train_test_split"
    folder.mkdir()
    for name, vehicles in lists.items():
        lines = [f"{image} {vehicle}" for vehicle in vehicles for image in images[vehicle]]
        (folder / f"{name}.txt").write_text("\n".join(lines) + "\n")
    return root


@pytest.mark.parametrize(("size", "vehicles"), [("small", 8), ("medium", 12), ("large", 16)])
def test_vehicles(tmp_path: Path, size: Any, vehicles: int) -> None:
    root = draw_vehicles(tmp_path)
    records = VehicleId(str(root), size).records()
    testing = records.splits == "test"
    gallery = testing & (records.roles == "gallery")
    assert Counter(records.labels[gallery]).most_common(1)[0][1] == 1
    assert (int(gallery.sum()), int(testing.sum())) == (vehicles, 3 * vehicles)
    assert set(records.roles[~testing]) == {"both"}
    again = VehicleId(str(root), size).records()
    np.testing.assert_array_equal(records.roles, again.roles)
    draws = [VehicleId(str(root), size, draw=n).records().roles.tolist() for n in range(5)]
    assert len({tuple(roles) for roles in draws}) == 5
    assert set(VehicleId(str(root), size, gallery="all").records().roles) == {"both"}
    own = embedded(records)[testing]
    scores = measure(Evaluation(k=(1, 5), monitor="map"), own, own, records).scores
    ranks = []
    for row in np.flatnonzero(records.roles[own.ids] == "query"):
        answers = own[records.roles[own.ids] == "gallery"]
        products = answers.vectors.astype(float) @ own.vectors[row].astype(float)
        right = products[answers.labels == own.labels[row]]
        ranks.append(int((products >= right).sum()))  # one answer only: MAP is 1 / rank
    assert scores["recall_at_5"] == pytest.approx(np.mean(np.array(ranks) <= 5))
    assert scores["map"] == pytest.approx(np.mean(1 / np.array(ranks)))
    with pytest.raises(InputError, match="Did you mean medium"):
        VehicleId(str(root), "mediun")  # type: ignore[arg-type]


def draw_met(root: Path, nested: bool = False) -> Path:
    """6 exhibits with 2 photographs each; queries of 4, and 5 of no exhibit."""
    images, truth = (root / "images", root / "ground_truth") if nested else (root, root)
    gallery = [(exhibit, f"MET/{exhibit}/{n}.jpg") for exhibit in range(30, 36) for n in range(2)]
    queries = [{"path": f"test_met/{n}.jpg", "MET_id": 30 + n} for n in range(4)]
    others: list[dict[str, Any]] = [{"path": f"test_other/{n}.jpg"} for n in range(5)]
    for number, path in enumerate([*(path for _, path in gallery), *(
        str(entry["path"]) for entry in [*queries, *others]
    )]):  # fmt: skip
        picture(images / path, number)
    truth.mkdir(exist_ok=True)
    listed = [{"id": exhibit, "path": path} for exhibit, path in gallery]
    for name, entries in {
        "MET_database": listed, "mini_MET_database": listed[:8],
        "testset": [*queries, *others], "valset": [queries[0], others[0]],
    }.items():  # fmt: skip
        (truth / f"{name}.json").write_text(json.dumps(entries))
    return root


@pytest.mark.parametrize("nested", [False, True])
def test_met(tmp_path: Path, nested: bool) -> None:
    root = draw_met(tmp_path, nested)
    records = Met(str(root)).records()
    assert Counter(records.roles) == {"gallery": 12, "query": 9}
    known = np.isin(records.labels, records.labels[records.roles == "gallery"])
    assert int((~known).sum()) == 5
    assert len(Met(str(root), mini=True, queries="val").records()) == 10


@pytest.mark.parametrize(("neighbours", "temperature"), [(1, 1.0), (1, 50.0), (3, 5.0), (9, 2.0)])
@pytest.mark.parametrize("seed", range(3))
def test_recognition_as_the_authors_count(
    tmp_path: Path, neighbours: int, temperature: float, seed: int
) -> None:
    """Their rules in plain loops: best similarity of each class among the nearest, softmax over all
    classes, then precision at each right answer, by confidence."""
    records = Met(str(draw_met(tmp_path))).records()
    own = embedded(records, seed)
    plan = Evaluation(recognition=Recognition(neighbours, temperature), monitor="gap")
    scores = measure(plan, own, own, records).scores
    gallery = own[records.roles == "gallery"]
    classes = len(set(gallery.labels))
    answers = []
    for row in np.flatnonzero(records.roles == "query"):
        products = gallery.vectors.astype(float) @ own.vectors[row].astype(float)
        best: dict[int, float] = {}
        for place in np.argsort(-products)[:neighbours]:
            label = int(gallery.labels[place])
            best[label] = max(best.get(label, 0.0), float(products[place]))
        weights = {label: np.exp(temperature * value) for label, value in best.items()}
        label = max(weights, key=lambda key: weights[key])
        others = sum(weights[key] for key in weights if key != label) + classes - len(weights)
        known = own.labels[row] in gallery.labels
        odds = weights[label] / others  # ranks as the confidence does
        answers.append((odds, label == own.labels[row] and known, known))

    def gap(counted: list[tuple[float, bool, bool]]) -> float:
        right, total = 0, 0.0
        for place, (_, hit, _) in enumerate(sorted(counted, key=lambda a: -a[0]), 1):
            right += hit
            total += hit * right / place
        return total / sum(known for *_, known in counted)

    assert scores["gap"] == pytest.approx(gap(answers))
    alone = [answer for answer in answers if answer[2]]
    assert scores["gap_without_distractors"] == pytest.approx(gap(alone))
    assert scores["recognition_accuracy"] == pytest.approx(np.mean([hit for _, hit, _ in alone]))
    assert scores["queries_without_positive"] == 5


def test_confidence_does_not_overflow_and_equal_ones_count_against() -> None:
    vectors = np.eye(3, dtype=np.float32)
    gallery = Embeddings(vectors, np.arange(3), np.arange(3))
    queries = Embeddings(vectors, np.array([0, 1, 9]), np.arange(10, 13))
    known = np.array([True, True, False])
    columns = Recognition(1, 1e4).columns(queries, gallery, known, Engines())
    assert np.isfinite(columns["confidence"]).all()
    assert recognition_scores(columns)["gap"] == pytest.approx((1 / 2 + 2 / 3) / 2)
    for neighbours, temperature in ((0, 1.0), (1, 0.0), (1, -1.0)):
        with pytest.raises(
            InputError, match=r"^evaluation\.recognition needs neighbours >= 1 and temperature > 0$"
        ):
            Recognition(neighbours, temperature)


def test_a_class_that_looks_like_the_opposite_is_as_likely_as_any_other() -> None:
    """Similarities below 0 count as 0: the probability of each of four classes is a quarter."""
    gallery = Embeddings(np.eye(4, dtype=np.float32), np.arange(4), np.arange(4))
    away = np.full((1, 4), -0.5, np.float32)
    queries = Embeddings(away, np.array([2]), np.array([9]))
    for neighbours in (1, 3, 9):
        columns = Recognition(neighbours, 5.0).columns(
            queries, gallery, np.ones(1, bool), Engines()
        )
        assert columns["confidence"] == pytest.approx([np.log(0.25 / 0.75)])


def test_queries_none_of_which_or_one_of_which_is_known() -> None:
    gallery = Embeddings(np.eye(3, dtype=np.float32), np.arange(3), np.arange(3))
    queries = Embeddings(gallery.vectors, np.array([0, 8, 9]), np.arange(10, 13))
    recognition = Recognition(1, 10.0)
    one = recognition.columns(queries, gallery, np.array([True, False, False]), Engines())
    found = recognition_scores({name: column[:1] for name, column in one.items()})
    assert found == {"gap": 1, "gap_without_distractors": 1, "recognition_accuracy": 1}
    unknown = recognition_scores({name: column[1:] for name, column in one.items()})
    assert (unknown["gap"], unknown["gap_without_distractors"]) == (0, 0)
    assert np.isnan(unknown["recognition_accuracy"])
    nobody = recognition.columns(queries[:0], gallery, np.zeros(0, bool), Engines())
    assert {name: column.shape for name, column in nobody.items()} == dict.fromkeys(one, (0,))


DRAWN: dict[str, tuple[Callable[[Path], Path], str]] = {
    "roxford": (draw_revisited, "map_trapezoid_medium"),
    "rparis": (lambda root: draw_revisited(root, "rparis6k"), "mean_precision_at_10_hard"),
    "landmarks": (draw_landmarks, "map_at_100"),
    "ilias": (draw_ilias, "map_at_1000"),
    "inaturalist": (draw_inaturalist, "recall_at_32"),
    "vehicle_id": (draw_vehicles, "recall_at_5"),
    "met": (draw_met, "gap"),
}
READERS: dict[str, Callable[[str], Any]] = {
    "landmarks": Landmarks, "ilias": Ilias, "inaturalist": INaturalist,
    "vehicle_id": VehicleId, "met": Met,
}  # fmt: skip


@pytest.mark.parametrize("name", READERS)
def test_an_empty_folder_says_what_belongs_where(name: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"https?://") as caught:
        READERS[name](str(tmp_path)).prepare()
    assert str(tmp_path) in str(caught.value)
    assert "set data.root" in str(caught.value).replace("\n", " ")


@pytest.mark.parametrize("name", READERS)
def test_one_image_is_missing(name: str, tmp_path: Path) -> None:
    root = DRAWN[name][0](tmp_path)
    for file in sorted(root.rglob("*.jpg"))[:2]:
        file.unlink()
    if name == "ilias":  # its folders are the list
        assert len(Ilias(str(root)).records()) == 13
        return
    with pytest.raises(InputError, match=r"2 of .* images are missing, first") as caught:
        READERS[name](str(root)).records()
    assert "http" in str(caught.value)


@pytest.mark.parametrize("name", READERS)
def test_what_is_published_is_compared(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    READERS[name](str(DRAWN[name][0](tmp_path))).prepare()
    assert "as published, so its scores don't compare" in caplog.text


def append(file: str, text: str) -> Change:
    return lambda root: (root / file).write_text((root / file).read_text() + text)


def write(file: str, text: str) -> Change:
    return lambda root: (root / file).write_text(text)


@pytest.mark.parametrize(
    ("name", "spoil", "message"),
    [
        ("landmarks", append("test/retrieval_solution_v2.1.csv", "abc,nowhere,Private\n"),
         "names the image 'nowhere', which index/index.csv lacks"),
        ("landmarks", write("test/retrieval_solution_v2.1.csv", "id,images\na,b\n"),
         "no column 'Usage'"),
        ("landmarks", append("index/index.csv", "ab\n"), "'ab' in .* is no name of an image"),
        ("ilias", lambda root: (root / "ilias_core" / "x" / "query").mkdir(parents=True),
         "no images in .*x/query"),
        ("inaturalist", append("Inat_dataset_splits/Inaturalist_test_set1.txt",
                               "train_val2018/Fungi/0/0.jpg\n"), "Fungi/0 is in both lists"),
        ("vehicle_id", append("train_test_split/test_list_800.txt", "0000001 1\n"),
         "vehicle 1 is in both lists"),
        ("vehicle_id", append("train_test_split/train_list.txt", "0000001\n"), "in line 61, not"),
        ("met", write("testset.json", "[{}"), "can't be read"),
        ("met", write("testset.json", "[{}]"), "has no 'path'"),
        ("met", write("MET_database.json", "{}"), "lists no images"),
    ],
)  # fmt: skip
def test_what_contradicts_itself(name: str, spoil: Change, message: str, tmp_path: Path) -> None:
    root = DRAWN[name][0](tmp_path)
    spoil(root)
    with pytest.raises(InputError, match=message):
        READERS[name](str(root)).records()


@pytest.mark.parametrize("name", DRAWN)
def test_a_choice_of_data_brings_its_authors_measures(
    name: str, compose: Callable[..., DictConfig]
) -> None:
    plan = build(compose("evaluate", f"data={name}").evaluation)
    assert any(DRAWN[name][1].startswith(metric) for metric in plan.directions())
    assert "evaluation" in compose("prepare", f"data={name}")


@pytest.mark.parametrize(
    "name", ["roxford", *(pytest.param(n, marks=pytest.mark.slow) for n in DRAWN if n != "roxford")]
)
def test_a_checkpoint_measures_a_benchmark(
    name: str,
    cli: Cli,
    tiny: tuple[str, ...],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """From the command line, after `prepare`; what it prints and writes is the authors'."""
    draw, metric = DRAWN[name]
    root = draw(tmp_path / name)
    cli("prepare", f"data={name}", f"data.root={root}", "hydra.run.dir=prepared")
    verb = "train" if name in ("inaturalist", "vehicle_id") else "evaluate"
    assert f"lookalike {verb} " in capsys.readouterr().out
    cli("train", *tiny, "trainer.max_epochs=0", "evaluation.whole_ranking=false",
        "hydra.run.dir=run")  # fmt: skip
    (checkpoint,) = Path("run/checkpoints").glob("*.ckpt")
    capsys.readouterr()
    cli("evaluate", f"checkpoint={checkpoint}", f"data={name}", f"data.root={root}",
        "hydra.run.dir=evaluated")  # fmt: skip
    written = json.loads(Path("evaluated/metrics.json").read_text())
    assert 0 <= written[f"test/{metric}"] <= 1
    assert written["test/queries"] > 0
    assert "no positive" in capsys.readouterr().out
    with np.load("evaluated/queries.npz") as kept:
        assert len(kept["ids"]) == written["test/queries"]


@pytest.mark.slow
def test_a_network_is_trained_on_vehicles(
    compose: Callable[..., DictConfig], tiny: tuple[str, ...], tmp_path: Path
) -> None:
    others = [o for o in tiny if not o.startswith(("data=", "data.root="))]
    root = draw_vehicles(tmp_path / "vehicles")
    config = compose("train", *others, "data=vehicle_id", f"data.root={root}")
    experiment = Experiment(config, tmp_path)
    scores = experiment.test(experiment.fit())
    assert scores["test/queries"] == 16
    assert 0 <= scores["test/map"] <= 1
