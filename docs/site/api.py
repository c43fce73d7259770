"""The reference of the Python code: a page for each package, from its docstrings."""

import ast
from collections.abc import Iterable
from pathlib import Path

import lookalike

SOURCE = Path(lookalike.__file__).resolve().parent
PACKAGES = (
    "data", "models", "losses", "retrieval", "evaluation", "inference", "reports", "training",
    "studies",
)  # fmt: skip


def api_pages() -> dict[str, str]:
    """Markdown by file name: the public names, then the packages."""
    pages = {f"{name}.md": _page(name, (SOURCE / name).rglob("*.py")) for name in PACKAGES}
    return {"index.md": _overview(), **pages, "foundations.md": _page("", SOURCE.glob("*.py"))}


def _overview() -> str:
    lines = [
        "# Python",
        "",
        "What `import lookalike` offers. Everything else is below, package by package.",
        "",
        "| | |",
        "|---|---|",
        *(
            f"| [`lookalike.{name}`][{_home(name)}] | {_purpose(name)} |"
            for name in lookalike.__all__
        ),
    ]
    return "\n".join(lines)


def _page(package: str, files: Iterable[Path]) -> str:
    """The modules of a package, or those below all packages."""
    lines = [f"# {package or 'foundations'}", ""]
    for file in sorted(files):
        tree = ast.parse(file.read_text())
        module = ".".join(("lookalike", *file.relative_to(SOURCE).with_suffix("").parts))
        if not file.name.startswith("__") and _has_public_names(tree):
            lines += [f"## {module.removeprefix('lookalike.')}", "", f"::: {module}", *_OPTIONS, ""]
    return "\n".join(lines)


_OPTIONS = ("    options:", "      show_root_heading: false", "      show_root_toc_entry: false")


def _has_public_names(tree: ast.Module) -> bool:
    kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    return any(isinstance(node, kinds) and not node.name.startswith("_") for node in tree.body)


def _home(name: str) -> str:
    return f"{lookalike._HOMES[name]}.{name}"


def _purpose(name: str) -> str:
    """The first line of its docstring."""
    file = SOURCE.parent / (lookalike._HOMES[name].replace(".", "/") + ".py")
    named = [each for each in ast.parse(file.read_text()).body if getattr(each, "name", "") == name]
    return (ast.get_docstring(named[0]) or "").splitlines()[0]
