"""`lookalike report`: runs read back and compared, and the page that shows them."""

import csv
import json
import re
import shutil
from collections.abc import Callable, Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from lookalike.data.records import Records
from lookalike.errors import InputError
from lookalike.evaluation.plan import Evaluation
from lookalike.reports.cells import Setting, compare
from lookalike.reports.comparison import differing, settings
from lookalike.reports.embeddings import KeepEmbeddings, read_embeddings
from lookalike.reports.finished import FinishedRun
from lookalike.reports.page.axis import Axis
from lookalike.reports.page.closeup import Lens
from lookalike.reports.page.document import Comparison, page
from lookalike.reports.page.svg import Chart, Series, legend
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
    ((name, sample),) = legend([("<u>", 3)])
    assert name == "<u>"  # a template escapes it
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
    labels = [line.setting.label for line in comparison.lines]
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
