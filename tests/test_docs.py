"""README and docs/ as a reader follows them: every block of code is run, every command composes.

`test_commands` composes each command with its overrides; here nothing is left over that no test
knows. The counts are printed.
"""

import ast
import csv
import importlib
import re
import shutil
import tomllib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import pytest
import yaml
from PIL import Image

import lookalike
from conftest import CHECKOUT, TINY
from lookalike.__main__ import VERBS
from lookalike.commands.show import show
from test_commands import COMMAND, arguments
from test_commands import commands as composed

PAGES = [CHECKOUT / "README.md", *sorted((CHECKOUT / "docs").rglob("*.md"))]
NOTEBOOKS = sorted((CHECKOUT / "docs" / "tutorials").glob("*.ipynb"))
OWN_PARTS = CHECKOUT / "docs" / "own_parts.md"  # test_own_parts follows it whole
SHOWN = ("", "console")  # blocks of commands, or of what a program prints


@dataclass(frozen=True)
class Block:
    """Between two fences of a page."""

    page: Path
    line: int
    language: str
    text: str

    @property
    def name(self) -> str:
        return f"{self.page.relative_to(CHECKOUT)}:{self.line}"


def blocks() -> Iterator[Block]:
    for page in PAGES:
        text = page.read_text()
        assert text.count("```") % 2 == 0, page
        for found in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
            line = text[: found.start()].count("\n") + 1
            yield Block(page, line, found[1], found[2])


BLOCKS = list(blocks())
PYTHON = [block for block in BLOCKS if block.language == "python" and block.page != OWN_PARTS]


def commands(block: Block) -> list[str]:
    """The lines of a block that are typed."""
    joined = re.sub(r"\\\n\s*", " ", block.text)
    lines = [line.strip() for line in joined.splitlines()]
    if block.language == "console":
        return [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]
    return [line for line in lines if re.match(r"(WANDB_MODE=\w+ )?(lookalike|pip|make) ", line)]


TYPED = [
    (block.name, line) for block in BLOCKS if block.language in SHOWN for line in commands(block)
]
CELLS = [
    (f"{file.name}:{number}", cell.source)
    for file in NOTEBOOKS
    for number, cell in enumerate(nbformat.read(file, as_version=4).cells)
    if cell.cell_type == "code"
]
IN_CELLS = [
    (name, re.sub(r"\\\n\s*", " ", source).removeprefix("!").split(" > ")[0])
    for name, source in CELLS
    if source.startswith("!")
]


def kind(line: str) -> str:
    """What is typed; raises AssertionError where a word is unknown."""
    line = re.sub(r"^WANDB_MODE=\w+ ", "", line)
    first, _, rest = line.split("  #")[0].strip().partition(" ")
    if first == "lookalike":
        return _of_ours(rest)
    if first == "make":
        targets = re.findall(r"^([a-z-]+):", (CHECKOUT / "Makefile").read_text(), re.MULTILINE)
        assert rest.split()[0] in targets, line
        return "make"
    if first == "pip":
        extras = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
        for extra in re.findall(r"\[(\w[\w-]*)\]", rest):
            assert extra in extras["optional-dependencies"], line
        return "pip"
    assert first in ("git", "source"), line
    return first


def _of_ours(rest: str) -> str:
    verb, _, overrides = rest.partition(" ")
    if verb == "show":
        assert show(overrides.split())
        return "lookalike show"
    if verb in ("--help", "completion"):
        return f"lookalike {verb}"
    assert verb in VERBS, rest
    if "=" in overrides and "--config-dir" not in overrides and "my_package" not in overrides:
        found = COMMAND.match(f"lookalike {rest}")  # by which test_commands finds it
        assert found
        assert arguments(found[2]), rest
    return "lookalike VERB"


@pytest.mark.parametrize(("where", "line"), [*TYPED, *IN_CELLS])
def test_every_command_is_known(where: str, line: str) -> None:
    assert kind(line)


def test_how_many_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    languages = Counter(block.language for block in BLOCKS)
    assert set(languages) <= {*SHOWN, "python", "yaml"}
    lines = [line for _, line in (*TYPED, *IN_CELLS)]
    kinds = Counter(map(kind, lines))
    assert kinds["lookalike VERB"] >= 130
    assert len(PYTHON) >= 10
    assert len(NOTEBOOKS) == 5
    with capsys.disabled():
        print(
            f"\n{len(composed())} commands composed in README, docs, headers and docstrings; in "
            f"README and docs {len(lines)} typed ones known, "
            f"{languages['python']} blocks of Python and {languages['yaml']} of YAML, "
            f"{len(CELLS)} cells in {len(NOTEBOOKS)} notebooks"
        )


@pytest.mark.parametrize("block", PYTHON, ids=lambda block: block.name)
def test_python_imports_what_there_is(block: Block) -> None:
    for node in ast.walk(ast.parse(block.text)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("lookalike"):
            module = importlib.import_module(node.module)
            assert [name.name for name in node.names if not hasattr(module, name.name)] == []
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "lookalike":
            assert hasattr(lookalike, node.attr)


@pytest.mark.parametrize(
    "block", [block for block in BLOCKS if block.language == "yaml"], ids=lambda block: block.name
)
def test_yaml_is_read(block: Block) -> None:
    content = yaml.safe_load(block.text)
    assert {"_target_", "defaults"} & set(content)


def test_lists_stand_after_an_empty_line() -> None:
    """Or the site shows them as running text."""
    glued = []
    for page in PAGES:
        text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
        for before, line in zip(text.splitlines(), text.splitlines()[1:], strict=False):
            starts = re.match(r"(- |\d+\. )", line) and not re.match(r"(- |\d+\. | |$)", before)
            if starts:
                glued.append(f"{page.name}: {line}")
    assert not glued


def test_the_readme_is_short_and_its_links_lead_somewhere() -> None:
    text = (CHECKOUT / "README.md").read_text()
    assert len(text.splitlines()) <= 150
    places = [
        link.partition("#")[0]
        for link in re.findall(r"\]\(([^)]+)\)", text)
        if not link.startswith("http")
    ]
    assert len(places) >= 30
    assert [place for place in places if not (CHECKOUT / place).is_file()] == []


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the pages speak of: photographs, a run, an index, vectors, a network."""
    folder = tmp_path_factory.mktemp("desk")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        _photographs()
        made = {"data.root": "photos", "paths.run": "outputs/train/RUN"}
        train_tiny([f"{key}={value}" for key, value in made.items()])
        checkpoint = "outputs/train/RUN/checkpoints/best.ckpt"
        shutil.copy(checkpoint, "best.ckpt")
        lookalike.load_embedder(checkpoint).save_pretrained("user/network")
        lookalike.Index.build("photos.csv", "photos.index", checkpoint)
        _run("export", f"checkpoint={checkpoint}", "out=embedder.onnx")
        _run("embed", f"checkpoint={checkpoint}", "images=photos.csv", "out=vectors")
    return folder


def train_tiny(given: list[str]) -> Any:
    overrides = [*TINY, "data=folder", "report=embeddings", *given]
    config = lookalike.compose("train", overrides)
    lookalike.train(config)
    return config


def _run(verb: str, *overrides: str) -> None:
    task = getattr(importlib.import_module(f"lookalike.commands.{verb}"), verb)
    task(lookalike.compose(verb, overrides))


def _photographs() -> None:
    rng = np.random.default_rng(0)
    rows = []
    for number, (row, column) in enumerate(np.ndindex(16, 4)):
        file = Path("photos") / ("bed" if row == 0 else f"thing{row:02d}") / f"{column}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        colour = np.array([row % 4, row // 4, 2]) * 60 + rng.integers(0, 40, 3)
        Image.new("RGB", (40, 32), tuple(map(int, colour))).save(file)
        rows.append((file, file.parent.name, 10 * number))
    with Path("photos.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([("path", "label", "price"), *rows])
    shutil.copytree("photos", "more_photos")
    for name in ("rose.jpg", "tulip.png", "tulip.jpg", "query.jpg"):
        Image.new("RGB", (40, 32), "crimson").save(name)


STANDS_FOR = {  # what a page says, and what is at hand instead
    "http://milvus:19530": "vectors.db",
    "dimensions=1280": "dimensions=8",
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of Milvus's client
@pytest.mark.parametrize("page", sorted({block.page for block in PYTHON}), ids=lambda p: p.name)
def test_python_runs(
    page: Path, desk: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """All blocks of a page, one after another, as a reader types them."""
    shutil.copytree(desk, tmp_path / "desk")
    monkeypatch.chdir(tmp_path / "desk")
    compose = lookalike.compose
    monkeypatch.setattr(
        lookalike, "compose", lambda verb, given: compose(verb, [*TINY, *given]), raising=False
    )
    uploaded: list[str] = []
    monkeypatch.setattr(
        lookalike.ImageEmbedder, "push_to_hub", lambda self, name, **_: uploaded.append(name)
    )
    names: dict[str, Any] = {"lookalike": lookalike, "queries": np.eye(2, 8, dtype=np.float32)}
    for block in PYTHON:
        if block.page == page:
            text = block.text
            for said, instead in STANDS_FOR.items():
                text = text.replace(said, instead)
            exec(compile(text, block.name, "exec"), names)
    if "vectors" in names and page.name in ("README.md", "share.md", "export.md"):
        assert names["vectors"].dtype == np.float32
        np.testing.assert_allclose(np.linalg.norm(names["vectors"], axis=1), 1, atol=1e-5)
    assert uploaded == (["user/copy"] if page.name == "share.md" else [])


@pytest.mark.slow
def test_measuring_prints_what_its_comments_say(capsys: pytest.CaptureFixture[str]) -> None:
    page = CHECKOUT / "docs" / "measuring.md"
    names: dict[str, Any] = {}
    expected = []
    for block in PYTHON:
        if block.page == page:
            exec(compile(block.text, block.name, "exec"), names)
            expected += re.findall(r"# ([\d.]+(?: [\d.]+)?)[:,\n]", block.text + "\n")
    assert capsys.readouterr().out.split() == " ".join(expected).split()


@pytest.mark.parametrize("file", NOTEBOOKS, ids=lambda file: file.stem)
def test_a_tutorial_is_kept_with_what_it_showed(file: Path) -> None:
    content = nbformat.read(file, as_version=4)
    nbformat.validate(content)
    outputs = [each for cell in content.cells for each in cell.get("outputs", [])]
    assert not [each for each in outputs if each.output_type == "error"]
    shown = str([each.get("data", each.get("text")) for each in outputs])
    assert "image/png" in shown or "data:image/jpeg" in shown
    assert file.stat().st_size < 1_500_000
    assert not re.search(r"/(root|home|tmp|work)/", file.read_text())
