"""The size of files and functions, and what is documented and typed, as CONTRIBUTING.md says."""

import ast
import doctest
import importlib
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from statistics import median

import pytest

from conftest import CHECKOUT

SOURCE = CHECKOUT / "src"
FILES = sorted(SOURCE.rglob("*.py"))
Function = ast.FunctionDef | ast.AsyncFunctionDef
LIGHTNING_HOOKS = ("on_", "prepare_data", "setup", "state_dict", "load_state_dict")


def functions(file: Path) -> Iterator[tuple[Function, str]]:
    """Every function and method of a file with its dotted name."""

    def below(node: ast.AST, above: str) -> Iterator[tuple[Function, str]]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, Function):
                yield child, f"{above}{child.name}"
            if isinstance(child, ast.ClassDef):
                yield from below(child, f"{above}{child.name}.")

    yield from below(ast.parse(file.read_text()), "")


def body_lines(function: Function) -> int:
    """From the first statement behind the docstring to the last."""
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def is_public(name: str) -> bool:
    return not any(part.startswith("_") for part in name.split("."))


ALL = [(file, function, name) for file in FILES for function, name in functions(file)]
PUBLIC = [(file, function, name) for file, function, name in ALL if is_public(name)]


def test_files_and_functions_are_small() -> None:
    lengths = {file: len(file.read_text().splitlines()) for file in FILES}
    assert len(lengths) > 130
    assert max(lengths.values()) <= 300, max(lengths, key=lambda file: lengths[file])
    assert median(length for length in lengths.values() if length) <= 110
    assert median(body_lines(function) for _, function, _ in ALL) <= 8


def test_every_public_signature_is_typed() -> None:
    untyped = []
    for file, function, name in PUBLIC:
        given = function.args
        named = [*given.posonlyargs, *given.args, *given.kwonlyargs, given.vararg, given.kwarg]
        arguments = [each for each in named if each and each.arg not in ("self", "cls")]
        if function.returns is None or any(each.annotation is None for each in arguments):
            untyped.append(f"{file.name}: {name}")
    assert not untyped


def test_public_functions_are_documented() -> None:
    documentable = [
        (file, function, name)
        for file, function, name in PUBLIC
        if not name.rpartition(".")[2].startswith(LIGHTNING_HOOKS)
    ]
    silent = [
        f"{f.name}: {name}" for f, function, name in documentable if not ast.get_docstring(function)
    ]
    assert len(silent) <= 0.05 * len(documentable), silent


DIALECT = (
    "told apart", "tell apart", "sighting", "pairs alike", "pairs unlike", "never meets",
    "keeps still", "hold_still", "AsFound", "refusals", "given up", "the memory, which",
)  # fmt: skip


def test_texts_are_in_the_words_of_the_field() -> None:
    texts = [
        *FILES,
        *(CHECKOUT / "conf").rglob("*.yaml"),
        *(CHECKOUT / "docs").rglob("*.md"),
        *(CHECKOUT / name for name in ("README.md", "CONTRIBUTING.md", "Makefile")),
    ]
    assert len(texts) > 300
    found = [f"{file}: {word}" for file in texts for word in DIALECT if word in file.read_text()]
    assert not found


WRITERS = (
    "write_text", "write_bytes", "savez", "savez_compressed", "to_csv", "to_json", "to_parquet",
    "savefig", "imsave", "tofile", "open_memmap", "save", "rename", "symlink_to",
)  # fmt: skip
FILLS_A_FOLDER = "fills a folder that is synced and renamed as a whole"
WRITES_DIRECTLY = {  # where, and why that is no file that a reader could find half written
    "files.py": "writes beside the target",
    "memory.py": "asks the kernel",
    "data/cache.py": FILLS_A_FOLDER,
    "data/features.py": FILLS_A_FOLDER,
    "data/sources/cameras.py": FILLS_A_FOLDER,
    "data/sources/hub.py": FILLS_A_FOLDER,
    "data/sources/drawing/drawn.py": FILLS_A_FOLDER,
    "data/sources/download.py": "a part, which is verified and then renamed",
    "reports/workspace.py": "to W&B's server",
}


def direct_writes(tree: ast.AST) -> Iterator[str]:
    """Calls that write a file under the name that they are given."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = getattr(node.func, "attr", getattr(node.func, "id", ""))
        values = [*node.args, *(keyword.value for keyword in node.keywords)]
        choices = [
            [each.body, each.orelse] if isinstance(each, ast.IfExp) else [each] for each in values
        ]
        modes = [each.value for each in chain(*choices) if isinstance(each, ast.Constant)]
        opens = name in ("open", "fdopen") and any(
            isinstance(mode, str) and set(mode) <= set("rwxabt+") and set(mode) & set("wxa+")
            for mode in modes
        )
        into_stream = any(isinstance(each, ast.Name) and each.id == "stream" for each in node.args)
        renames = ast.unparse(node.func) == "os.replace" or (
            name == "replace"
            and isinstance(node.func, ast.Attribute)
            and len(node.args) == 1
            and not node.keywords
        )
        by = ast.unparse(node.func)  # some of ours go through files.py
        ours = by in ("write_text", "embeddings.save", "measured.save") or ".measured[" in by
        if opens or renames or (name in WRITERS and not (into_stream or ours)):
            yield ast.unparse(node)


def test_every_file_is_written_whole() -> None:
    """All go through files.py; a writer that is named there and writes no more is an error too."""
    found = {
        file.relative_to(SOURCE / "lookalike").as_posix(): writes
        for file in FILES
        if (writes := list(direct_writes(ast.parse(file.read_text()))))
    }
    assert {name: found[name] for name in found if name not in WRITES_DIRECTLY} == {}
    assert set(found) == set(WRITES_DIRECTLY)


@pytest.mark.parametrize(
    "line",
    [
        "file.write_text('x')", "open(file, 'w')", "file.open('ab')", "open(file, mode='r+')",
        "part.open('ab' if start else 'wb')",
        "np.save(file, array)", "torch.save(content, file)", "picture.savefig(file)",
        "partial.replace(file)", "os.replace(partial, file)", "np.savez(file, a=a)",
        "OmegaConf.save(config, file)", "frame.to_csv(file)",
    ],
)  # fmt: skip
def test_a_direct_write_is_found(line: str) -> None:
    assert list(direct_writes(ast.parse(line))) == [line]


@pytest.mark.parametrize(
    "line",
    [
        "open(file)", "open(file, 'rb')", "torch.save(content, stream)", "text.replace('w', 'x')",
        "replace(record, path=path)", "replace(record)",
    ],
)  # fmt: skip
def test_reading_is_no_write(line: str) -> None:
    assert not list(direct_writes(ast.parse(line)))


EXAMPLES = [file for file in FILES if ">>> " in file.read_text()]


@pytest.mark.parametrize("file", EXAMPLES, ids=lambda file: file.stem)
def test_examples_run(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    name = ".".join(file.relative_to(SOURCE).with_suffix("").parts)
    found = doctest.testmod(importlib.import_module(name))
    assert found.attempted
    assert not found.failed
