"""Files are written whole or not at all, whatever ends the process; folders are made by one."""

import errno
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from lookalike import files
from lookalike.errors import InputError
from lookalike.files import new_folder, publish, write_text, writing


def inside(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_reader_sees_the_old_file_until_the_new_one_is_whole(tmp_path: Path) -> None:
    file = tmp_path / "scores.json"
    write_text(file, "old")
    with writing(file) as stream:
        stream.write("new")
        stream.flush()
        assert file.read_text() == "old"
    assert file.read_text() == "new"
    assert inside(tmp_path) == ["scores.json"]


def test_an_error_leaves_the_old_file_alone(tmp_path: Path) -> None:
    file = tmp_path / "scores.json"
    write_text(file, "old")

    def fails() -> None:
        with writing(file, "wb") as stream:
            stream.write(b"half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fails()
    assert file.read_text() == "old"
    assert inside(tmp_path) == ["scores.json"]


def test_bytes_are_on_the_disk_before_the_name_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[tuple[str, int]] = []
    fsync, replace = os.fsync, os.replace

    def synced(descriptor: int) -> None:
        calls.append(("fsync", os.fstat(descriptor).st_ino))
        fsync(descriptor)

    def replaced(source: Any, target: Any) -> None:
        calls.append(("replace", os.stat(source).st_ino))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(os, "replace", replaced)
    write_text(tmp_path / "a.txt", "text")
    file, folder = (tmp_path / "a.txt").stat().st_ino, tmp_path.stat().st_ino
    assert calls == [("fsync", file), ("replace", file), ("fsync", folder)]


def test_a_folder_is_synced_with_all_that_is_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda d: (synced.append(os.fstat(d).st_ino), fsync(d)))
    (tmp_path / "part" / "deep").mkdir(parents=True)
    for name in ("a", "deep/b"):
        (tmp_path / "part" / name).write_text(name)
    publish(tmp_path / "part", tmp_path / "whole")
    found = [tmp_path / "whole" / name for name in ("a", "deep/b")]
    assert {file.stat().st_ino for file in found} <= set(synced)
    assert inside(tmp_path) == ["whole"]


def test_many_files_are_synced_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    monkeypatch.setattr(os, "sync", lambda: calls.append("sync"))
    (tmp_path / "part").mkdir()
    for number in range(files.MANY):
        (tmp_path / "part" / str(number)).touch()
    publish(tmp_path / "part", tmp_path / "whole")
    assert calls == ["sync"]
    assert len(inside(tmp_path / "whole")) == files.MANY


def test_of_a_link_the_target_is_written(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "link.txt").symlink_to(tmp_path / "elsewhere" / "real.txt")
    write_text(tmp_path / "link.txt", "text")
    assert (tmp_path / "link.txt").is_symlink()
    assert (tmp_path / "elsewhere" / "real.txt").read_text() == "text"


def test_others_may_read_as_the_user_set_it(tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    write_text(tmp_path / "ours", "text")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "plain").stat().st_mode


HALF = """
import sys, time
from lookalike.files import writing
with writing(sys.argv[1]) as stream:
    stream.write("half")
    stream.flush()
    print("writing", flush=True)
    time.sleep(60)
"""


def test_what_a_killed_process_left_is_removed_and_another_s_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "best.ckpt"
    write_text(file, "old")
    command = [sys.executable, "-c", HALF, str(file)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        write_text(file, "meanwhile")
        assert len(inside(tmp_path)) == 2  # the other one's half is still being written
        process.kill()
    assert file.read_text() == "meanwhile"
    assert len(inside(tmp_path)) == 2
    write_text(file, "new")
    assert inside(tmp_path) == ["best.ckpt"]
    assert file.read_text() == "new"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EDQUOT, errno.EACCES])
def test_a_disk_that_can_not_be_written_is_explained(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(_: int) -> None:
        raise OSError(number, os.strerror(number))

    write_text(tmp_path / "a.txt", "old")
    monkeypatch.setattr(os, "fsync", fails)
    with pytest.raises(
        InputError, match=rf"can't write .*a\.txt: {os.strerror(number)}.*LOOKALIKE"
    ):
        write_text(tmp_path / "a.txt", "new")
    assert (tmp_path / "a.txt").read_text() == "old"
    assert inside(tmp_path) == ["a.txt"]


def test_other_errors_are_not_about_the_disk(tmp_path: Path) -> None:
    with pytest.raises(BlockingIOError), writing(tmp_path / "a.txt"):
        raise BlockingIOError(errno.EAGAIN, "not of the disk")


def test_every_one_gets_a_folder_of_its_own(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(lambda _: new_folder(tmp_path / "runs" / "run"), range(40)))
    assert len(set(folders)) == 40
    assert set(folders) == set((tmp_path / "runs").iterdir())


KILLED = """
import sys
from lookalike.files import writing
count = 0
while True:
    count += 1
    with writing(sys.argv[1], "wb") as stream:
        stream.write(count.to_bytes(4, "big") * 250_000)
    if count == 1:
        print("begun", flush=True)
"""


@pytest.mark.slow
def test_no_kill_breaks_a_file(tmp_path: Path) -> None:
    file = tmp_path / "count.bin"
    for number in range(10):
        command = [sys.executable, "-c", KILLED, str(file)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(0.01 * number)
            process.send_signal(signal.SIGKILL)
        content = file.read_bytes()
        assert content == content[:4] * 250_000
        assert len(inside(tmp_path)) <= 2  # no more than one half is left, ever
