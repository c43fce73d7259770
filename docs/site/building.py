"""Builds the site: pages of docs/, of conf/, of docstrings and notebooks. `make docs`

Without a network. Warnings and links that lead nowhere are errors; nothing that a page loads comes
from another host.
"""

import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from api import api_pages
from configuration import configuration_pages, groups
from lookalike.__main__ import VERBS
from tutorials import as_page

HERE = Path(__file__).resolve().parent
DOCS = HERE.parent
CHECKOUT = DOCS.parent
WORK = CHECKOUT / "build" / "docs"
SITE = WORK / "site"
COPIED = (".md", ".jpg", ".png", ".csv")
ELSEWHERE = {  # files outside of docs/ that are pages too
    "speed/RESULTS.md": "speed_results.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
}
SHIM = "https://unpkg.com/iframe-worker/shim"  # by which the search works from the file system
HOST = r"""["']?((?:https?:)?//[^"' >)]+)"""
LOADED = re.compile(rf"<(?:script|img|iframe|source|link)\b[^>]*?(?:src|href)={HOST}")
LOADED_BY_STYLE = re.compile(rf"(?:url\(|@import ){HOST}")


def main() -> None:
    """Put the pages together, build, and check what came out."""
    shutil.rmtree(WORK, ignore_errors=True)
    pages = WORK / "pages"
    assemble(pages)
    (WORK / "zensical.toml").write_text(filled_in((HERE / "zensical.toml").read_text(), pages))
    zensical = Path(sys.executable).with_name("zensical")
    done = subprocess.run(
        [zensical, "build", "--strict"], cwd=WORK, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    sys.stdout.buffer.write(done.stdout)
    if done.returncode or b"griffe: " in done.stdout:
        sys.exit("the site was not built; what to fix is above")
    built = sorted(SITE.rglob("*.html"))
    for page in built:
        page.write_text(finished(page.read_text(), "../" * (len(page.relative_to(SITE).parts) - 1)))
    files = [*built, *SITE.rglob("*.css")]
    if foreign := [f"{each.name}: {host}" for each in files for host in loaded_from_others(each)]:
        sys.exit("pages load from other hosts:\n" + "\n".join(foreign))
    print(f"{len(built)} pages: {SITE.relative_to(CHECKOUT)}/index.html")


def assemble(pages: Path) -> None:
    """Write every page, and what they show, into a folder."""
    for file in sorted(DOCS.rglob("*")):
        place = pages / file.relative_to(DOCS)
        if file.suffix in COPIED and HERE not in file.parents:
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, place)
    for original, name in ELSEWHERE.items():
        shutil.copy(CHECKOUT / original, pages / name)
    shutil.copytree(HERE / "assets", pages / "assets")
    _write(pages / "configuration", configuration_pages())
    _write(pages / "api", api_pages())
    _write(
        pages / "tutorials",
        {f"{n.stem}.md": as_page(n, pages / "tutorials" / "pictures") for n in notebooks()},
    )
    for page in sorted(pages.rglob("*.md")):
        page.write_text(linked(page.read_text()))


def linked(text: str) -> str:
    """With links to files outside of docs/, and to notebooks, as links to their pages."""
    for original, name in ELSEWHERE.items():
        text = text.replace(f"](../{original}", f"]({name}")
    text = text.replace("](docs/", "](")  # of CONTRIBUTING.md
    return re.sub(r"(\]\([\w/]+)\.ipynb\)", r"\1.md)", text)


def notebooks() -> list[Path]:
    """The tutorials in their order."""
    return sorted((DOCS / "tutorials").glob("*.ipynb"))


def filled_in(settings: str, pages: Path) -> str:
    """zensical.toml with the pages that are generated, and those that it doesn't name."""
    generated = {
        "@tutorials": [f"tutorials/{each.stem}.md" for each in notebooks()],
        "@commands": [f"configuration/command_{verb}.md" for verb in VERBS],
        "@groups": [f"configuration/group_{group}.md" for group in groups()],
        "@api": [f"api/{name}" for name in api_pages()],
    }
    for mark, files in generated.items():
        settings = settings.replace(mark, _entries(files))
    nav = tomllib.loads(settings.replace("@others", ""))["project"]["nav"]
    settings = settings.replace("@others", _entries(sorted(set(_names(pages)) - set(listed(nav)))))
    settings = settings.replace("@docstrings", str(HERE / "docstrings.py"))
    return settings.replace("@source", str(CHECKOUT / "src"))


def listed(nav: Iterable[Any]) -> Iterator[str]:
    """The pages that a nav names."""
    for entry in nav:
        if isinstance(entry, str):
            yield entry
        elif isinstance(entry, dict):
            yield from listed(entry.values())
        else:
            yield from listed(entry)


def finished(html: str, up: str) -> str:
    """A page that loads the script from the site, and whose commands are copied without "$ ".

    Args:
        html: as it was built.
        up: the way from the page to the top of the site, such as "../".
    """
    html = html.replace('<span class="gp">$ </span>', '<span class="gp prompt"></span>')
    return html.replace(SHIM, f"{up}assets/iframe-worker.js")


def loaded_from_others(file: Path) -> list[str]:
    """Addresses of other hosts that a page or a style would load."""
    text = re.sub(r'<link rel="(?:canonical|next|prev)"[^>]*>', "", file.read_text())
    return LOADED_BY_STYLE.findall(text) if file.suffix == ".css" else LOADED.findall(text)


def _entries(files: Iterable[str]) -> str:
    return ", ".join(f'"{file}"' for file in files)


def _write(folder: Path, texts: dict[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (folder / name).write_text(text + "\n")


def _names(pages: Path) -> Iterator[str]:
    return (file.relative_to(pages).as_posix() for file in sorted(pages.rglob("*.md")))


if __name__ == "__main__":
    main()
