"""The site: its generated pages hold all of conf/ and the code; nothing comes from other hosts."""

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import nbformat
import pytest
from omegaconf import OmegaConf
from playwright.sync_api import expect, sync_playwright

import lookalike
from api import PACKAGES, SOURCE, api_pages
from building import SITE, filled_in, finished, linked, listed, loaded_from_others
from configuration import (
    CONF,
    configuration_pages,
    groups,
    is_shown_whole,
    keys_with_included,
)
from conftest import CHECKOUT
from docstrings import in_sections
from lookalike.__main__ import VERBS
from lookalike.commands.choices import header_of, package_of
from tutorials import as_page

PAGES = configuration_pages()


def leaves(node: Any, above: str = "") -> list[str]:
    """Dotted names of a configuration's values, as OmegaConf reads them."""
    if not OmegaConf.is_dict(node) or not node:
        return [above]
    keys = [str(key) for key in node if key != "defaults" and not str(key).startswith("_")]
    return [
        name
        for key in keys
        for name in leaves(node._get_node(key), f"{above}.{key}" if above else key)
    ]


CHOICES = [file for group in groups() for file in sorted((CONF / group).glob("*.yaml"))]


def test_every_group_and_command_has_a_page() -> None:
    of_verbs = {f"command_{verb}.md" for verb in VERBS}
    assert set(PAGES) == {"index.md", *of_verbs, *(f"group_{group}.md" for group in groups())}
    assert len(CHOICES) > 200
    for name in [*VERBS, *groups()]:
        assert f"[{name}](" in PAGES["index.md"]


@pytest.mark.parametrize("group", groups())
def test_every_choice_key_and_default_is_on_its_page(group: str) -> None:
    sections = dict(
        re.findall(r"^## (\S+)\n(.*?)(?=^## |\Z)", PAGES[f"group_{group}.md"], re.M | re.S)
    )
    files = sorted((CONF / group).glob("*.yaml"))
    assert list(sections) == [file.stem for file in files]
    for file in files:
        section = sections[file.stem]
        words = re.findall(r"[A-Za-z]{4,}", " ".join(header_of(file)))
        assert not [word for word in words if word not in section]
        if is_shown_whole(file.read_text()):
            written = [line for line in file.read_text().splitlines() if line and line[0] != "#"]
            assert "\n".join(written) in re.sub(r"\n\n+", "\n", section)
            continue
        for name in leaves(OmegaConf.load(file)):
            listed_names = re.findall(r"^\| `([^`]+)`", section, re.M)
            full = f"{package_of(file)}.{name}"
            assert any(full == each or full.startswith(f"{each}.") for each in listed_names) or (
                name == ""
            ), (file, full)


def test_comments_and_defaults_are_those_of_the_file() -> None:
    data = PAGES["group_data.md"]
    assert "| `data.folds` | `4` | into which the training classes are divided |" in data
    assert keys_with_included(CONF / "data" / "flowers.yaml")["protocol"].value == "zero_shot"
    loss = PAGES["group_loss.md"]
    assert "Brings along: `miner=triplet_margin`" in loss
    assert "[arXiv:1503.03832](https://arxiv.org/abs/1503.03832)" in loss
    assert "$ lookalike train resume=last" in PAGES["command_train.md"]


def test_every_module_with_public_names_is_in_the_reference() -> None:
    written = "\n".join(api_pages().values())
    documented = set(re.findall(r"^::: (\S+)$", written, re.M))
    packages = {file.parent.name for file in SOURCE.glob("*/__init__.py")}
    assert packages - set(PACKAGES) == {"app", "commands"}  # no interface for Python
    assert len(documented) > 150
    for name in lookalike.__all__:
        assert f"[`lookalike.{name}`][{lookalike._HOMES[name]}.{name}]" in written
        assert lookalike._HOMES[name] in documented


def test_docstrings_get_sections() -> None:
    text = "A box.\n\nleft: in pixels,\n    from 0.\nright: too.\n\n>>> 1\n1\n\nDiffers: a\nb."
    assert in_sections(text) == (
        "A box.\n\nAttributes:\n    left: in pixels,\n        from 0.\n    right: too.\n\n"
        "```pycon\n>>> 1\n1\n```\n\nDiffers: a\nb."
    )
    assert "Attributes" not in in_sections("x: one", with_attributes=False)
    assert in_sections("How:\n\n    code = 1") == "How:\n\n    code = 1"


def test_a_notebook_becomes_a_page(tmp_path: Path) -> None:
    outputs = [
        nbformat.v4.new_output("stream", text="\x1b[31m<b>red</b>\x1b[0m\n"),
        nbformat.v4.new_output("display_data", {"image/png": "iVBORw0KGgo="}),
        nbformat.v4.new_output("display_data", {"text/html": "<p>a</p>\n<p>b</p>"}),
    ]
    cells = [
        nbformat.v4.new_markdown_cell("# Title"),
        nbformat.v4.new_code_cell("1", outputs=outputs),
    ]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), tmp_path / "n.ipynb")
    page = as_page(tmp_path / "n.ipynb", tmp_path / "pictures")
    assert page.startswith("# Title\n\n```python\n1\n```\n\n")
    assert "<pre>&lt;b&gt;red&lt;/b&gt;</pre>" in page
    assert "![What the cell drew](pictures/n_1_1.png)" in page
    assert (tmp_path / "pictures" / "n_1_1.png").read_bytes().startswith(b"\x89PNG")
    assert '<div class="output"><p>a</p>&#10;<p>b</p></div>' in page


def test_links_lead_to_pages_of_the_site() -> None:
    assert linked("[a](../speed/RESULTS.md) [b](tutorials/1_x.ipynb)") == (
        "[a](speed_results.md) [b](tutorials/1_x.md)"
    )
    assert list(listed([{"A": ["a.md", {"B": "b.md"}]}, "c.md"])) == ["a.md", "b.md", "c.md"]


def test_the_nav_has_every_page(tmp_path: Path) -> None:
    (tmp_path / "data.md").touch()
    (tmp_path / "new.md").touch()
    settings = filled_in((CHECKOUT / "docs" / "site" / "zensical.toml").read_text(), tmp_path)
    assert "@" not in re.sub(r"#.*", "", settings)
    named = list(listed(tomllib.loads(settings)["project"]["nav"]))
    assert named.count("new.md") == named.count("data.md") == 1
    assert {f"configuration/{name}" for name in PAGES} < set(named)


def test_commands_are_copied_without_their_prompt() -> None:
    html = '<code><span class="gp">$ </span>make</code><script src="https://unpkg.com/iframe-worker/shim">'
    assert re.sub("<[^>]*>", "", finished(html, "")) == "make"
    assert 'src="../assets/iframe-worker.js"' in finished(html, "../")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('<script src="https://unpkg.com/x.js">', ["https://unpkg.com/x.js"]),
        ("<img alt=a src=//cdn.org/a.png>", ["//cdn.org/a.png"]),
        ('<link rel="stylesheet" href="http://fonts.org/f">', ["http://fonts.org/f"]),
        ('<a href="https://arxiv.org">', []),
        ('<link rel="canonical" href="https://a.org/">', []),
        ('<script src="assets/a.js"><img src="data:image/png;base64,//8=">', []),
    ],
)
def test_what_is_loaded_from_others(text: str, found: list[str], tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(text)
    assert loaded_from_others(tmp_path / "page.html") == found
    (tmp_path / "a.css").write_text("a{b:url('https://f.org/x')} @import \"//g.org/y\";")
    assert loaded_from_others(tmp_path / "a.css") == ["https://f.org/x", "//g.org/y"]


@pytest.mark.slow
@pytest.mark.browser
def test_the_site_is_built_and_searched_from_the_file_system() -> None:
    done = subprocess.run(
        [sys.executable, CHECKOUT / "docs" / "site" / "building.py"], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--no-sandbox"]
        )
        page = browser.new_page(viewport={"width": 420, "height": 800}, color_scheme="dark")
        asked: list[str] = []
        page.on("request", lambda request: asked.append(request.url))
        page.goto((SITE / "index.html").as_uri())
        expect(page.locator("body")).to_have_attribute("data-md-color-scheme", "slate")
        page.keyboard.press("Control+k")
        page.keyboard.type("holm")
        expect(page.get_by_role("option", name="Statistics")).to_be_visible()
        for name in ("configuration/group_loss", "api/evaluation", "tutorials/1_train_and_look"):
            page.goto((SITE / f"{name}.html").as_uri())
            wide = "document.documentElement.scrollWidth <= document.documentElement.clientWidth"
            assert page.evaluate(wide)
        browser.close()
    assert [url for url in asked if not url.startswith(("file:", "data:", "blob:"))] == []
