"""`lookalike report`: runs read back and compared, and the page that shows them."""

import csv
import json
import re
import shutil
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping
from hashlib import sha256
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from scipy import stats

from lookalike.data.records import Records
from lookalike.errors import InputError
from lookalike.evaluation.plan import Evaluation
from lookalike.reports.cells import Setting, compare
from lookalike.reports.comparison import differing, settings
from lookalike.reports.embeddings import KeepEmbeddings, read_embeddings
from lookalike.reports.finished import FinishedRun
from lookalike.reports.page import document, sections
from lookalike.reports.page.axis import Axis
from lookalike.reports.page.closeup import Lens
from lookalike.reports.page.costs import cost_figures
from lookalike.reports.page.document import Comparison, page
from lookalike.reports.page.figures import row_chart
from lookalike.reports.page.labels import short_label, short_labels, telling_keys
from lookalike.reports.page.overview import interval_figure, recall_figure
from lookalike.reports.page.svg import Chart, Name, Series, legend
from lookalike.reports.page.ties import Tie
from lookalike.reports.saved import find_runs, flattened
from lookalike.reports.tables import Table, comma_separated, latex, markdown, title
from lookalike.retrieval.embeddings import Embeddings
from lookalike.training.identity import compared

Cli = Callable[..., Any]


def write_run(
    root: Path, number: int, loss: str = "triplet", seed: int = 0, size: int = 64, fold: int = 0,
    score: float = 0.5, margin: float | None = None,
) -> Path:  # fmt: skip
    """A run folder as `train` leaves it, without the checkpoint."""
    folder = root / f"run{number}_{loss}_seed{seed}"
    (folder / ".hydra").mkdir(parents=True)
    names = ("recall_at_1", "recall_at_2", "recall_at_4", "map_at_r", "map")
    scores = {f"{part}/{name}": score for part in ("val", "test") for name in names}
    facts = {
        "test/queries": 48.0, "epoch": 2, "training_seconds": 10.0 + number,
        "parameters": 100 * size, "images_per_second": 200.0 + number,
        "counts": {"test_images": 48}, "git_commit": "abc",
    }  # fmt: skip
    (folder / "metrics.json").write_text(json.dumps(scores | facts))
    arguments = "" if margin is None else f"  margin: {margin}\n"
    (folder / ".hydra" / "config.yaml").write_text(
        f"name: x_${{seed}}\nseed: {seed}\nembedding_size: {size}\nloss:\n  _target_: a.{loss}\n"
        f"{arguments}evaluation:\n  monitor: map_at_r\n  k: [1, 2]\ndata:\n  fold: {fold}\n"
    )
    (folder / ".hydra" / "hydra.yaml").write_text(
        f"hydra:\n  runtime:\n    choices:\n      loss: {loss}\n      data: drawn\n"
        "      hydra/help: default\n"
    )
    (folder / "metrics.csv").write_text(
        "epoch,step,train/loss,val/map_at_r\n"
        f"0,4,2.0,\n0,9,,{score / 2}\n1,14,1.0,\n1,19,,{score}\n"
    )
    return folder


def test_runs_are_found_once_below_folders_globs_and_lists(tmp_path: Path) -> None:
    for number in range(3):
        write_run(tmp_path / "a", number)
    single = write_run(tmp_path / "b" / "c", 3)
    (single / "inside").mkdir()
    (single / "inside" / "metrics.json").write_text("{}")  # not a run of its own
    (tmp_path / "a" / "unfinished").mkdir()
    assert len(find_runs(tmp_path)) == 4
    assert len(find_runs(str(tmp_path / "a" / "run[01]*"))) == 2
    assert [run.folder for run in find_runs([single, single, str(tmp_path / "b")])] == [single]
    with pytest.raises(InputError, match="`lookalike train` makes one"):
        find_runs(tmp_path / "nowhere")
    (single / "metrics.json").write_text("{")
    with pytest.raises(InputError, match="is no JSON"):
        find_runs(single)


def test_flattened() -> None:
    nested = {"a": {"b": {"c": 1}, "d": [1, None]}, "e": None, "f": {}}
    assert dict(flattened(nested)) == {"a.b.c": 1, "a.d": "[1, null]", "e": None, "f": "{}"}
    assert dict(flattened({})) == {}


def test_only_what_was_chosen_differs(tmp_path: Path) -> None:
    write_run(tmp_path, 0, "triplet", seed=0, margin=0.1)
    write_run(tmp_path, 1, "arcface", seed=1)
    assert differing(find_runs(tmp_path)) == ["loss", "seed"]  # the margin follows from the loss
    write_run(tmp_path, 2, "triplet", seed=0, margin=0.2)
    runs = find_runs(tmp_path)
    assert differing(runs) == ["loss", "seed", "loss.margin"]
    assert [len(s.runs) for s in settings(runs, differing(runs))] == [1, 1, 1]


def test_a_starting_point_is_a_setting_without_a_loss(tmp_path: Path) -> None:
    write_run(tmp_path, 0, "triplet")
    write_run(tmp_path, 1, "arcface", margin=0.3)
    config = write_run(tmp_path, 2, "triplet", margin=0.1) / ".hydra" / "config.yaml"
    config.write_text(config.read_text() + "trainer:\n  max_epochs: 0\n")
    runs = compared(find_runs(tmp_path))
    labels = [setting.label for setting in settings(runs, differing(runs))]
    assert labels == ["loss=triplet", "loss=arcface", "loss=before training"]


def test_intervals_are_student_s_over_seeds_of_whole_folds(tmp_path: Path) -> None:
    scores = {(0, 0): 0.5, (0, 1): 0.7, (1, 0): 0.4, (1, 1): 0.4, (2, 0): 0.9, (2, 1): 0.5}
    for number, ((seed, fold), score) in enumerate(scores.items()):
        write_run(tmp_path, number, seed=seed, fold=fold, score=score)
    write_run(tmp_path, 9, seed=3, fold=0, score=0.1)  # its other fold is missing
    runs = find_runs(tmp_path)
    (setting,) = settings(runs, differing(runs))
    found = compare([setting], ["test/map_at_r"])[0].scores["test/map_at_r"]
    means = [np.mean([scores[seed, fold] for fold in (0, 1)]) for seed in range(3)]
    low, high = stats.t.interval(0.95, 2, np.mean(means), stats.sem(means))
    assert found.mean == pytest.approx(np.mean(means))
    assert found.half_width == pytest.approx((high - low) / 2)
    assert found.seeds == 3
    twice = Setting({}, (*setting.runs[:2], *setting.runs[:2]))  # runs that repeat both
    (line,) = compare([twice], ["test/map_at_r", "test/unheard_of"])
    assert line.scores["test/map_at_r"].interval == "0.6000"
    assert np.isnan(line.scores["test/map_at_r"].half_width)
    assert np.isnan(line.scores["test/unheard_of"].mean)


def test_tables_escape_what_their_language_reads() -> None:
    lines = [["a|b", "0.9 ± 0.1 ≈"], ["c,d", "#1 & ~{}"], ["\\x^2", "0.5 †"]]
    table = Table(["loss_a", "R@1 %"], lines, 1, ["100 % of $5"])
    assert markdown(table).splitlines()[1:3] == ["| --- | ---: |", "| a\\|b | 0.9 ± 0.1 ≈ |"]
    assert latex(table).splitlines() == [
        "% 100 % of $5",
        r"\begin{tabular}{lr}",
        r"\toprule",
        r"loss\_a & R@1 \% \\",
        r"\midrule",
        r"a\textbar{}b & 0.9 $\pm$ 0.1 $\approx$ \\",
        r"c,d & \#1 \& \textasciitilde{}\{\} \\",
        r"\textbackslash{}x\textasciicircum{}2 & 0.5 $^\dagger$ \\",
        r"\bottomrule",
        r"\end{tabular}",
    ]
    assert list(csv.reader(comma_separated(table).splitlines())) == [table.head, *lines]


@pytest.mark.parametrize(
    ("metric", "written"),
    [
        ("test/map_at_r", "test MAP@R"),
        ("val/recall_at_10", "val recall@10"),
        ("epoch_0/test/precision_at_1", "epoch 0 test P@1"),
        ("training_seconds", "training seconds"),
    ],
)
def test_metrics_have_one_title(metric: str, written: str) -> None:
    assert title(metric) == written


def test_charts_escape_their_texts_once() -> None:
    chart = Chart(Axis('x < 1 & "y"', 0, 1), Axis("<b>", 0, 1), "a 'chart' > 0")
    chart.points(Series("s", [(0.5, 0.5)], 1, ["<i>&"]))
    chart.line(Series("</svg>", [(0, 0), (1, 1)], 2))
    drawn = str(chart.__html__())
    Reader(drawn)
    for raw in ("<b>", "<i>", "amp;amp;", "</svg></title>"):
        assert raw not in drawn
    assert "x &lt; 1 &amp; &#34;y&#34;" in drawn
    ((name, sample),) = legend([(Name("<u>"), 3)])
    assert name.text == "<u>"  # a template escapes it
    assert "<svg" in sample


@pytest.mark.parametrize(
    ("low", "high", "log"),
    [(0, 1, False), (-3e-5, 2e-5, False), (1e-5, 1e-2, True), (32, 512, True), (900, 1100, True)],
)
def test_ticks_are_few_and_inside(low: float, high: float, log: bool) -> None:
    axis = Axis("x", low, high, log)
    places = [axis.place(value) for value, _ in axis.marks()]
    assert 2 <= len(places) <= 9
    assert all(-1e-9 <= place <= 1 + 1e-9 for place in places)
    assert axis.place(low) == 0
    assert axis.place(high) == pytest.approx(1)


class Reader(HTMLParser):
    """Counts tags, checks that they are closed, and keeps every address."""

    VOID = ("meta", "link", "img", "input", "br")

    def __init__(self, html: str) -> None:
        super().__init__()
        self.opened: list[str] = []
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)
        assert self.opened == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.opened.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.opened.pop() == tag

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.found if name == tag]


def written_page(root: Path) -> str:
    comparison = Comparison(find_runs(root), "map_at_r")
    return page(comparison, {comparison.runs[0]: None}, Lens())


def check_self_contained(html: str) -> Reader:
    """Well nested; every address is inside of the page; every picture has a text."""
    read = Reader(html)
    for tag, attributes in read.found:
        for name in ("src", "href"):
            address = attributes.get(name) or ""
            assert address.startswith(("data:", "#")) or not address, (tag, address)
    assert not re.search(r"url\((?!data:)", html)
    assert "@import" not in html
    ids = [attributes["id"] for _, attributes in read.found if attributes.get("id")]
    assert len(ids) == len(set(ids))
    assert all(attributes.get("alt") for attributes in read.all("img"))
    for attributes in read.all("svg"):
        assert attributes.get("aria-label") or attributes.get("aria-hidden")
    return read


def test_a_page_of_a_sweep(tmp_path: Path) -> None:
    number = 0
    for loss, score in (("triplet", 0.4), ("<b>&odd", 0.6)):
        for seed in (0, 1, 2):
            for size in (32, 512):
                write_run(tmp_path, number, loss, seed, size, 0, score + seed / 50)
                number += 1
    html = written_page(tmp_path)
    read = check_self_contained(html)
    assert "<b>&odd" not in html.replace("&lt;b&gt;&amp;odd", "")
    assert len([row for row in read.all("tr") if "data-words" in row]) == 12
    for heading in ("Scores", "Runs", "Learning", "Hyper-parameters", "Cost and quality"):
        assert f">{heading}</h2>" in html
    assert "loss=triplet, embedding_size=32" in html
    low, high = stats.t.interval(0.95, 2, 0.42, stats.sem([0.4, 0.42, 0.44]))
    assert f"0.4200 ± {(high - low) / 2:.4f}" in html
    assert "embed=true" in html  # the close-up that these runs can't have
    held = json.loads(re.search(r'id="configs">(.*?)</script>', html)[1])
    assert set(held["keys"]) == {"loss", "seed", "embedding_size", "loss._target_"}
    assert len(held["runs"]) == 12


def test_what_was_not_trained_comes_first_and_two_seeds_have_a_range(tmp_path: Path) -> None:
    for number, (loss, score) in enumerate((("triplet", 0.4), ("arcface", 0.6))):
        for seed in (0, 1):
            write_run(tmp_path, 2 * number + seed, loss, seed, score=score + seed / 10)
    start = write_run(tmp_path, 9, "start", score=0.8) / ".hydra" / "config.yaml"
    start.write_text(start.read_text() + "trainer:\n  max_epochs: 0\n")
    comparison = Comparison(compared(find_runs(tmp_path)), "map_at_r")
    labels = [line.setting.label for line in comparison.parts[0].lines]
    assert labels == ["loss=before training", "loss=arcface", "loss=triplet"]
    assert not comparison.runs[0].trained  # runs are ordered by their score alone
    assert comparison.runs[0].curves == {}
    tables = comparison.files()
    assert "| arcface ↓ | 0.6500 (0.6000 - 0.7000) ≈ |" in tables["scores.md"]
    assert "≈: not significantly different from the best (p > 0.05)" in tables["scores.md"]
    rows = list(csv.DictReader(tables["scores.csv"].splitlines()))
    assert [row["test/map_at_r/half_width"] for row in rows] == ["", "", ""]
    assert float(rows[1]["test/map_at_r"]) == pytest.approx(0.65)
    assert len(list(csv.DictReader(tables["runs.csv"].splitlines()))) == 5
    html = written_page(tmp_path)
    assert "0.6500 (0.6000 - 0.7000) ≈" in html
    assert "t-interval" not in html


def test_nothing_of_a_run_becomes_html(tmp_path: Path) -> None:
    hostile = "</script><img src=x onerror=alert(1)>"
    for number in (0, 1):
        folder = write_run(tmp_path, number, size=number)
        config = folder / ".hydra" / "config.yaml"
        config.write_text(config.read_text() + f'note: "{hostile}{number}"\n')
        metrics = json.loads((folder / "metrics.json").read_text())
        metrics |= {"git_commit": hostile, "versions": {hostile: hostile}}
        (folder / "metrics.json").write_text(json.dumps(metrics))
    html = written_page(tmp_path)
    read = check_self_contained(html)
    assert read.all("img") == []
    assert len(read.all("script")) == 2
    held = json.loads(re.search(r'id="configs">(.*?)</script>', html)[1])
    assert f"{hostile}0" in held["runs"][0]["values"] + held["runs"][1]["values"]


def test_scores_of_different_tests_are_not_compared_in_silence(tmp_path: Path) -> None:
    write_run(tmp_path, 0)
    assert "were tested on different images" not in written_page(tmp_path)
    other = write_run(tmp_path, 1)
    content = json.loads((other / "metrics.json").read_text())
    content |= {"test/queries": 7.0, "test/queries_without_positive": 3.0}
    (other / "metrics.json").write_text(json.dumps(content))
    html = written_page(tmp_path)
    assert "were tested on different images" in html
    assert "3 test queries have no relevant image" in html


def changed(folder: Path, choices: Mapping[str, str], config: Mapping[str, Any]) -> None:
    """Further choices and keys of a run."""
    for name, above, values in (
        ("hydra", ("hydra", "runtime", "choices"), choices),
        ("config", (), config),
    ):
        file = folder / ".hydra" / f"{name}.yaml"
        content = yaml.safe_load(file.read_text())
        node = content
        for key in above:
            node = node[key]
        node |= values
        file.write_text(yaml.safe_dump(content, sort_keys=False))


def two_data_sets(root: Path) -> Comparison:
    """Two losses, two sizes and three seeds on each; the second set is far easier."""
    number = 0
    for data, ease in (("cub", 0.0), ("cars", 0.5)):
        for loss, score in (("triplet", 0.1), ("arcface", 0.2)):
            for seed in range(3):
                for size in (32, 512):
                    folder = write_run(root, number, loss, seed, size, 0, ease + score + seed / 50)
                    changed(folder, {"data": data}, {})
                    number += 1
    return Comparison(find_runs(root), "map_at_r")


def test_nothing_shows_scores_of_different_tests_together(tmp_path: Path) -> None:
    comparison = two_data_sets(tmp_path)
    titles = ["cub: 48 queries, 48 images", "cars: 48 queries, 48 images"]
    assert sorted(part.title for part in comparison.parts) == sorted(titles)
    html = page(comparison, {comparison.runs[0]: None}, Lens())
    check_self_contained(html)
    for name in ("scores", "runs", "curves", "effects", "costs"):
        body = re.search(rf'<section id="{name}">(.*?)</section>', html, re.DOTALL)
        assert body is not None
        assert sorted(re.findall("<h3>(.*?)</h3>", body[1])) == sorted(titles)
    for part in comparison.parts:
        own = {Tie([run]).__html__() for run in part.runs}
        drawn = str(
            sections.scores(part, comparison.test)
            + sections.runs(part, comparison.keys, [])
            + sections.learning(part.lines, "map_at_r")
            + sections.effects(part.runs, part.keys, comparison.test)
            + sections.costs(part.lines, comparison.test)
        )
        marks = {mark for group in re.findall(r'data-(?:some|every)="(.*?)"', drawn)
                 for mark in group.split()}  # fmt: skip
        assert marks == {re.findall('"(.*)"', tie)[0] for tie in own}
    assert {run.choices["data"] for run in comparison.runs[:2]} == {"cub", "cars"}  # close-ups


def test_tables_of_different_tests_stand_apart(tmp_path: Path) -> None:
    comparison = two_data_sets(tmp_path)
    tables = comparison.files()
    assert tables["scores.md"].count("\n| --- ") == 2
    assert tables["scores.md"].count("## ") == 2
    assert tables["scores.tex"].count(r"\begin{tabular}") == 2
    cells = list(csv.DictReader(tables["scores.csv"].splitlines()))
    assert [row["tested_on"][:4] for row in cells] == [p.title[:4] for p in comparison.parts
                                                       for _ in range(4)]  # fmt: skip
    # both losses of a set are tested against the best of that set, not of the other
    assert sum(row["test/map_at_r/p"] == "1.0" for row in cells) >= 2
    rows = list(csv.DictReader(tables["runs.csv"].splitlines()))
    assert len(rows) == 24
    assert all(row["tested_on"].startswith(row["data"]) for row in rows)


def test_scores_stand_left_of_many_hyper_parameters(tmp_path: Path) -> None:
    varied = {f"optimizer_option_{n}": n for n in range(12)}
    for number, loss in enumerate(("triplet", "multi_similarity")):
        folder = write_run(tmp_path, number, loss)
        values = {key: f"{value}{number}" for key, value in varied.items()}
        changed(folder, {"backbone": f"resnet{number}"}, values)
    for name, first in (("scores", ["loss"]), ("runs", ["run", "loss"])):
        section = re.search(rf'<section id="{name}">(.*?)</section>', written_page(tmp_path), re.S)
        assert section is not None
        heads = re.findall("<button>(.*?)</button>", section[1])
        assert heads[: len(first)] == first
        last_score = max(place for place, head in enumerate(heads) if head.startswith("test "))
        assert sum("option" in head for head in heads[last_score:]) >= 10
        assert set(varied) <= set(heads)  # none is lost
        assert "multi_similarity</td>" in section[1]


def test_few_hyper_parameters_stand_left_of_the_scores(tmp_path: Path) -> None:
    for number, loss in enumerate(("triplet", "arcface")):
        write_run(tmp_path, number, loss, size=32 * (1 + number))
    heads = re.findall("<button>(.*?)</button>", written_page(tmp_path))
    assert heads[:3] == ["loss", "embedding_size", "val MAP@R"]


def test_short_labels_keep_the_loss_and_what_tells_apart(tmp_path: Path) -> None:
    losses = ("a_loss_with_a_name_longer_than_any_label", "triplet")
    long = "a_miner_of_positives_and_semi_hard_negatives"
    for number in range(8):
        loss = losses[number % 2]
        folder = write_run(tmp_path, number, loss, size=32 * (1 + number // 4))
        # the miner follows from the loss, all have the same backbone
        choices = {"miner": f"{long}_{loss}", "backbone": "resnet50", "sampler": f"{number // 2}"}
        changed(folder, choices, {})
    runs = find_runs(tmp_path)
    found = settings(runs, ["backbone", "miner", "loss", "sampler", "embedding_size"])
    assert telling_keys(found) == ["loss", "sampler"]
    labels = short_labels(found)
    assert len(set(labels)) == 8
    for setting, label in zip(found, labels, strict=True):
        assert label.startswith(setting.values["loss"])
        assert not label.startswith("triplet") or label == f"triplet, {setting.values['sampler']}"
    many = {"loss": "multi_similarity", **{str(n): "0.0001" for n in range(12)}}
    assert short_label(many).startswith("multi_similarity, …, ")
    assert len(short_label(many)) <= 32
    chart, _ = row_chart([Name("triplet, …", "loss=triplet, all")], Axis("x", 0, 1), "x")
    assert ">triplet, …<title>loss=triplet, all</title></text>" in chart.__html__()


def test_links_to_close_ups_keep_the_loss(tmp_path: Path) -> None:
    for number, loss in enumerate(("multi_similarity", "triplet")):
        changed(write_run(tmp_path, number, loss, seed=number), {"miner": "x" * 60 + loss}, {})
    html = written_page(tmp_path)
    link = r'<a href="#run0" title="Close-up: .*">Close-up: multi_similarity, seed 0<'
    assert re.search(link, html)


def test_charts_and_tables_are_tied_to_their_runs(tmp_path: Path) -> None:
    for number in range(16):  # 8 settings: the last two are grey
        size = 32 * (1 + number % 2)
        write_run(tmp_path, number, f"loss{number % 8}", seed=number // 8, size=size)
    comparison = Comparison(find_runs(tmp_path), "map_at_r")
    html = page(comparison, {comparison.runs[0]: None}, Lens())
    read = check_self_contained(html)
    rows = [row for row in read.all("tr") if "data-words" in row]
    marks = {row["data-some"] for row in rows}
    assert len(marks) == 16
    for name in ("scores", "curves", "effects", "costs"):
        body = re.search(rf'<section id="{name}">(.*?)</section>', html, re.DOTALL)
        assert body is not None
        single = re.findall(r'<path data-some="(\w+)"', body[1])
        assert set(single) == marks  # each run has points or lines of its own
    assert len(set(re.findall(r'data-some="(\w+ \w+)"', html))) == 8  # settings
    assert 'data-every="' in html  # means over several settings


def test_the_starting_point_is_a_line_to_compare_with(tmp_path: Path) -> None:
    for number, loss in enumerate(("triplet", "arcface")):
        write_run(tmp_path, number, loss, score=0.6 + number / 10)
    config = write_run(tmp_path, 9, "start", score=0.25) / ".hydra" / "config.yaml"
    config.write_text(config.read_text() + "trainer:\n  max_epochs: 0\n")
    (part,) = Comparison(compared(find_runs(tmp_path)), "map_at_r").parts
    figures = [
        interval_figure(part.lines, "test/map_at_r"),
        recall_figure(part.lines),
        *cost_figures(part.lines, "test/map_at_r"),
    ]
    assert len(figures) == 4
    for figure in figures:
        assert figure is not None
        drawn = str(figure.chart.__html__())
        assert drawn.count('class="level"') == 1
        assert "Dashed: before training." in figure.caption
        assert [name.text for name, _ in figure.legend] in ([], ["arcface", "triplet"])
    rows = re.findall(r'class="end">(\D+?)<title>', str(figures[0].chart.__html__()))
    assert rows == ["arcface", "triplet"]
    alone = interval_figure([line for line in part.lines if not line.setting.trained],
                            "test/map_at_r")  # fmt: skip
    assert alone is not None
    assert 'class="level"' not in str(alone.chart.__html__())


def test_progress_is_shown_while_the_page_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_run(tmp_path, 0)
    told: list[tuple[int, int]] = []

    def followed(parts: Iterable[Any], description: str, total: int) -> Any:
        found = list(parts)
        told.append((len(found), total))
        return found

    monkeypatch.setattr(document, "track", followed)
    written_page(tmp_path)
    assert told == [(8, 8)]  # with one close-up


def test_runs_without_anything_but_scores(tmp_path: Path) -> None:
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "metrics.json").write_text('{"test/map_at_r": 0.25}')
    html = written_page(tmp_path)
    check_self_contained(html)
    assert "0.2500" in html


@pytest.fixture
def kept(class_folders: Path, tmp_path: Path) -> Path:
    """A run with test embeddings of 6 classes; one image is only a query, one only stored, one
    can no longer be read."""
    paths = sorted(class_folders.glob("*/*.png"))[:36]
    gone = tmp_path / "gone.png"
    shutil.copy(paths[3], gone)
    roles = ["both"] * 36
    roles[0], roles[7] = "query", "gallery"
    names = [path.parent.name for path in paths]
    records = Records.create(
        [*paths[:3], gone, *paths[4:]], names, splits=["test"] * 36, roles=roles
    )
    vectors = np.random.default_rng(0).normal(size=(36, 3)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    folder = write_run(tmp_path / "runs", 0)
    embeddings = Embeddings(vectors, records.labels, np.arange(36), records.exclusion_ids)
    run = FinishedRun(folder, Evaluation(), 1, records, embeddings, untrained=None, loss=None)
    assert KeepEmbeddings().write(run) == [folder / "embeddings.npz"]
    gone.unlink()
    return folder


def test_embeddings_come_back_as_they_were(kept: Path) -> None:
    tested = read_embeddings(kept)
    assert tested is not None
    assert tested.embeddings.vectors.shape == (36, 3)
    assert len(tested.queries) == len(tested.gallery) == 35
    assert Path(tested.paths[5]).is_absolute()
    assert tested.class_of(35) == "class05"
    assert tested.rows_of(np.array([[3, 7]])).tolist() == [[3, 7]]
    assert read_embeddings(kept.parent) is None
    (kept / "embeddings.npz").write_bytes(b"PK")
    with pytest.raises(InputError, match="embed=true"):
        read_embeddings(kept)


@pytest.mark.parametrize("projection", ["pca", "tsne"])
def test_a_close_up(kept: Path, projection: Any) -> None:
    comparison = Comparison(find_runs(kept), "map_at_r")
    lens = Lens(k=3, queries=2, pairs_of=20, mapped=30, projection=projection)
    html = page(comparison, {comparison.runs[0]: read_embeddings(kept)}, lens)
    read = check_self_contained(html)
    points = [attributes for attributes in read.all("path") if "data-i" in attributes]
    assert sorted(int(point["data-i"] or "") for point in points) == list(range(30))
    assert html.count('class="answer"') == 3 * 2 + 1  # queries, and the hubs
    for heading in ("Similarity of pairs", "Hubs", "Classes, tight and apart", "Classes confused"):
        assert heading in html
    assert "Skewness" in html
    assert ".sheet0{background-image:url(data:image/jpeg" in html


@pytest.mark.slow
def test_a_run_reported_from_beginning_to_end(cli: Cli, tiny: tuple[str, ...]) -> None:
    cli("train", *tiny, "report=embeddings", "hydra.run.dir=runs/first")
    cli("train", *tiny, "loss=triplet", "hydra.run.dir=runs/second")
    first = read_embeddings(Path("runs/first"))
    assert first is not None
    file = cli("report", "runs=runs", "lens.projection=pca")
    assert file.is_file()
    for name in ("scores.md", "scores.tex", "scores.csv", "runs.csv"):
        assert (file.parent / name).is_file()
    assert len((file.parent / "runs.csv").read_text().splitlines()) == 3
    assert "kept no test embeddings" in file.read_text()
    (Path("runs/first") / "embeddings.npz").unlink()
    again = cli("report", "runs=runs", "embed=true", "lens.projection=pca", "name=again")
    check_self_contained(again.read_text())
    assert "kept no test embeddings" not in again.read_text()
    remade = read_embeddings(Path("runs/first"))
    assert remade is not None
    np.testing.assert_allclose(remade.embeddings.vectors, first.embeddings.vectors, atol=1e-5)
    np.testing.assert_array_equal(remade.embeddings.exclusion_ids, first.embeddings.exclusion_ids)


def test_no_runs_and_wrong_arguments_are_explained(cli: Cli, capsys: Any) -> None:
    for overrides, message in (
        (["runs=nowhere"], "`lookalike train` makes one"),
        (["+lens.kk=3"], "takes no 'kk'"),
    ):
        with pytest.raises(SystemExit):
            cli("report", *overrides)
        assert message in capsys.readouterr().err


@pytest.fixture
def browser() -> Iterator[Any]:
    """Chromium; looked for where Playwright has it, then on the PATH."""
    api = pytest.importorskip("playwright.sync_api", reason="no Playwright: pip install playwright")
    with api.sync_playwright() as playwright:
        own = Path(playwright.chromium.executable_path)
        path = str(own) if own.is_file() else shutil.which("chromium")
        if path is None:
            pytest.skip("no Chromium: playwright install chromium")
        launched = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield launched
        launched.close()


@pytest.mark.slow
def test_a_thousand_runs_in_a_browser(tmp_path: Path, browser: Any) -> None:
    rng = np.random.default_rng(0)
    for number in range(1000):
        loss = ("triplet", "arcface", "circle", "margin")[number % 4]
        size, seed = 32 * 2 ** (number // 4 % 5), number // 20
        write_run(tmp_path / "runs", number, loss, seed, size, 0, float(rng.uniform()))
    file = tmp_path / "report.html"
    file.write_text(written_page(tmp_path / "runs"), encoding="utf-8")
    view = browser.new_page(viewport={"width": 420, "height": 800})
    complaints: list[str] = []
    asked: list[str] = []
    view.on("console", lambda message: complaints.append(message.text))
    view.on("pageerror", lambda error: complaints.append(str(error)))
    view.on("request", lambda request: asked.append(request.url))
    view.goto(file.as_uri())
    rows = view.locator("#runs tbody tr:visible")
    assert rows.count() == 1000

    view.fill("#filter", "loss=triplet seed=7")
    expected = sum(n % 4 == 0 and n // 20 == 7 for n in range(1000))
    assert rows.count() == expected
    assert view.inner_text("#shown") == f"{expected} of 1000 runs"
    left = view.locator("#costs [data-some]:visible").count()
    assert 0 < left < view.locator("#costs [data-some]").count()
    view.fill("#filter", "")

    column = view.locator("#runs th", has_text="test MAP@R").first
    for order in ("descending", "ascending"):
        column.locator("button").click()
        assert column.get_attribute("aria-sort") == order
        index = column.evaluate("head => head.cellIndex")
        values = view.eval_on_selector_all(
            "#runs tbody tr", f"rows => rows.map(row => +row.cells[{index}].dataset.v)"
        )
        assert values == sorted(values, reverse=order == "descending")
    view.select_option("#diff select >> nth=0", "0")
    view.select_option("#diff select >> nth=1", "0")
    assert "do not differ" in view.inner_text("#diff tbody")
    view.select_option("#diff select >> nth=1", "1")
    assert "seed" in view.inner_text("#diff tbody")
    # only tables in boxes of their own scroll sideways
    assert view.evaluate("document.documentElement.scrollWidth") <= 420
    assert complaints == []
    assert all(url.startswith(("file:", "data:")) for url in asked)


def test_the_page_runs_its_own_script_alone(tmp_path: Path) -> None:
    write_run(tmp_path / "runs", 0, "triplet", 0, 32, 0, 0.5)
    text = written_page(tmp_path / "runs")
    policy = unescape(re.findall(r'Content-Security-Policy" content="([^"]+)"', text)[0])
    assert policy.startswith("default-src 'none'; ")
    for tag in ("style", "script"):
        (inside,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = b64encode(sha256(inside.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}';" in policy
    assert "unsafe" not in policy
    assert not re.findall(r"""<[^>]+\s(?:style|on\w+)=""", text)
