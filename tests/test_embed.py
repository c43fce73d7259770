"""Parts of an embedding: the same however they are made, resumable, and nothing ends them."""

import csv
import io
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from pyarrow import parquet

import lookalike
from lookalike.data.sources.files import Skipped
from lookalike.data.sources.tars import images_in
from lookalike.errors import InputError
from lookalike.inference.export import exported, write_exported
from lookalike.inference.vector_parts import load_parts, read_parts
from test_export import pictures, tiny_network

Cli = Callable[..., Any]


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("network") / "tiny.onnx"
    write_exported(file, exported(tiny_network(), "onnx", [pictures(4)])[0])
    return f"checkpoint={file}"


def parts_of(folder: str) -> pa.Table:
    """All parts below each other."""
    return pa.concat_tables([parquet.read_table(f) for f in sorted(Path(folder).glob("*.parquet"))])


def problems_in(folder: str) -> list[dict[str, str]]:
    """What all parts could not read."""
    files = sorted(Path(folder).glob("*.csv"))
    return [row for file in files for row in csv.DictReader(file.read_text().splitlines())]


def pack(file: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(file, "w") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return file


def test_shards_together_are_what_one_process_writes(
    cli: Cli, network: str, class_folders: Path
) -> None:
    asked = (network, f"images={class_folders}", "part_size=20", "batch_size=7")
    assert cli("embed", *asked, "out=one") == 96
    assert [cli("embed", *asked, "out=two", f"shard={i}/3") for i in range(3)] == [40, 36, 20]
    one, two = parts_of("one"), parts_of("two")
    assert one.equals(two)
    assert one["id"].to_pylist() == list(range(96))
    embed = lookalike.load_embedder(network.partition("=")[2])
    expected = embed(one["path"].to_pylist())
    np.testing.assert_allclose(np.stack(one["vector"].to_numpy()), expected, atol=1e-6)
    assert one["class"].to_pylist() == [Path(path).parent.name for path in one["path"].to_pylist()]
    assert pa.types.is_fixed_size_list(one["vector"].type)


def test_a_second_start_does_only_what_is_missing(
    cli: Cli, network: str, class_folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = (network, f"images={class_folders}", "part_size=20", "out=parts")
    cli("embed", *asked)
    files = sorted(Path("parts").glob("*.parquet"))
    before = {file: file.stat().st_mtime_ns for file in files}
    whole = parts_of("parts")
    files[2].unlink()
    with pytest.raises(InputError, match=r"1 of the 5 parts .* the first is part-00002-of-00005"):
        list(read_parts("parts"))
    assert cli("embed", *asked) == 20
    assert parts_of("parts").equals(whole)
    assert [before[file] == file.stat().st_mtime_ns for file in files] == [1, 1, 0, 1, 1]
    with pytest.raises(SystemExit):
        cli("embed", network, f"images={class_folders / 'class00'}", "part_size=20", "out=parts")
    assert "was begun with other parts and images" in capsys.readouterr().err


def test_what_cannot_be_read_is_listed_and_never_ends_it(
    cli: Cli, network: str, tmp_path: Path, class_folders: Path
) -> None:
    good = (class_folders / "class00" / "0.png").read_bytes()
    folder = tmp_path / "photos"
    folder.mkdir()
    for name, content in {"a.png": good, "b.png": b"", "c.jpg": good[:300], "d.png": good}.items():
        (folder / name).write_bytes(content)
    assert cli("embed", network, f"images={folder}", "out=parts", "part_size=1") == 2
    listed = problems_in("parts")
    assert [Path(row["path"]).name for row in listed] == ["b.png", "c.jpg"]
    assert all(row["problem"] for row in listed)
    assert [len(part.ids) for part in read_parts("parts")] == [1, 0, 0, 1]


def test_columns_and_boxes_of_a_table_are_kept(
    cli: Cli, network: str, tmp_path: Path, class_folders: Path
) -> None:
    image = class_folders / "class03" / "1.png"
    rows = f"{image},red,5,,,,\n{image},blue,7,0,0,20,20\n"
    (tmp_path / "t.csv").write_text(f"path,label,price,left,top,right,bottom\n{rows}")
    cli("embed", network, "images=t.csv", "out=parts")
    table = parts_of("parts")
    assert table["price"].to_pylist() == [5, 7]
    assert table["class"].to_pylist() == ["red", "blue"]
    whole, part = np.stack(table["vector"].to_numpy())
    assert np.abs(whole - part).max() > 1e-4


def test_tars_hold_samples_and_junk(
    cli: Cli, network: str, tmp_path: Path, class_folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = [path.read_bytes() for path in sorted(class_folders.glob("*/0.png"))[:4]]
    good = pack(
        tmp_path / "a.tar",
        {
            "1.cls": b"rose", "1.png": images[0], "1.json": b"{}",
            "2.png": images[1], "2.cls": b" 7\n", "x/._2.png": b"junk", "notes.pdf": b"?",
            "3.png": b"no image",
        },
    )  # fmt: skip
    cut = pack(tmp_path / "b.tar", {"4.png": images[2], "5.png": images[3]})
    cut.write_bytes(cut.read_bytes()[: 512 + 1024 * (len(images[2]) // 1024 + 2)])
    (tmp_path / "c.tar").write_bytes(b"no tar at all")
    skipped = Skipped()
    assert [(each.name, each.class_name) for each in images_in(good, skipped)] == [
        ("1.png", "rose"), ("2.png", "7"), ("3.png", ""),
    ]  # fmt: skip
    assert list(skipped.files) == [".pdf"]
    assert cli("embed", network, f"images={tmp_path}", "out=parts") == 3
    table = parts_of("parts")
    assert table["id"].to_pylist() == [0, 1, 2**32]
    assert table["path"].to_pylist()[0] == f"{good}/1.png"
    embed = lookalike.load_embedder(network.partition("=")[2])
    np.testing.assert_allclose(np.stack(table["vector"].to_numpy()), embed(images[:3]), atol=1e-6)
    listed = problems_in("parts")
    assert ["3.png" in listed[0]["path"], *(row["problem"] for row in listed[1:])] == [
        True, "damaged tar", "damaged tar",
    ]  # fmt: skip
    assert "1 file skipped: 1 .pdf" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["out=o"], "give images="),
        (["images=."], "give images="),
        (["images=nothing", "out=o"], "there is no file or folder nothing"),
        (["images=.", "out=o", "shard=3/3"], "shard=3/3: give i/n"),
        (["images=.", "out=o", "launcher=dask"], "launcher=dask is not known"),
        (["images=.", "out=o", "part_size=0"], "part_size=0"),
    ],
)
def test_what_does_not_fit_is_said(
    overrides: list[str], message: str, cli: Cli, network: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        cli("embed", network, *overrides)
    assert message in capsys.readouterr().err
    assert not Path("o").exists()


def test_a_part_that_is_none_is_named(cli: Cli, network: str, class_folders: Path) -> None:
    cli("embed", network, f"images={class_folders}", "out=parts")
    (file,) = Path("parts").glob("*.parquet")
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(InputError, match="can't be read as a part"):
        list(read_parts("parts"))
    with pytest.raises(InputError, match="holds no parts of `lookalike embed`"):
        list(read_parts("."))


class Held:
    """A store that remembers what it was given."""

    def __init__(self) -> None:
        self.given: list[tuple[Any, ...]] = []

    def add(self, *given: Any) -> None:
        self.given.append(given)


def test_parts_are_loaded_into_a_store(cli: Cli, network: str, class_folders: Path) -> None:
    cli("embed", network, f"images={class_folders}", "out=parts", "part_size=50")
    store: Any = Held()
    assert load_parts("parts", store) == 96
    ids, vectors, columns = store.given[1]
    assert (ids.tolist(), vectors.shape) == (list(range(50, 96)), (46, 16))
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)
    assert columns["id"].to_pylist() == ids.tolist()
    assert "vector" not in columns.column_names


@pytest.mark.slow
@pytest.mark.skipif(find_spec("ray") is None, reason='pip install "lookalike[ray]"')
def test_ray_with_a_killed_worker_writes_the_same_parts(
    cli: Cli, network: str, class_folders: Path, tmp_path: Path
) -> None:
    images = [f"images={class_folders}", "part_size=3"]
    cli("embed", network, *images, "out=one")
    command = [sys.executable, "-m", "lookalike", "embed", network, *images, "out=ray",
               "launcher=ray", "workers=2", "device=cpu"]  # fmt: skip
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    folder = tmp_path / "ray"
    while len(list(folder.glob("*.parquet"))) < 3 and process.poll() is None:
        time.sleep(0.05)
    workers = _workers(process.pid)
    assert len(workers) >= 2
    os.kill(workers[0], signal.SIGKILL)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors
    assert parts_of("ray").equals(parts_of("one"))


def _workers(ancestor: int) -> list[int]:
    """The processes of Ray that hold a network, by their titles."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            title = (process / "cmdline").read_bytes()
            if b"ray::" in title and b"InWorker" in title and _is_below(process, ancestor):
                found.append(int(process.name))
        except OSError:
            continue
    return found


def _is_below(process: Path, ancestor: int) -> bool:
    while (number := int((process / "stat").read_text().rpartition(")")[2].split()[1])) > 1:
        if number == ancestor:
            return True
        process = Path(f"/proc/{number}")
    return False
