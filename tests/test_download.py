"""Downloads and archives, against a local server that can be told to misbehave."""

import hashlib
import io
import re
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Literal

import pytest

from lookalike.data.sources import download as module
from lookalike.data.sources.download import CHUNK, download, extract
from lookalike.errors import InputError

CONTENT = bytes(range(256)) * 1200  # 307 200 bytes: several chunks
SHA256 = f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"

Mode = Literal["w", "w:gz"]
Pack = Callable[[Path, dict[str, bytes]], Path]


class Server(ThreadingHTTPServer):
    """Serves `content` at /file.bin, and notes the Range header of every request."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.content = CONTENT
        self.knows_range = True
        self.drops: list[int] = []  # bytes after which the next answers break off
        self.statuses: list[int] = []  # error codes of the next answers
        self.ranges: list[str | None] = []
        self.sent = 0  # bytes
        self.second_request = threading.Event()

    def url(self, name: str = "file.bin") -> str:
        return f"http://127.0.0.1:{self.server_port}/{name}"


class Handler(BaseHTTPRequestHandler):
    server: Server  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_GET(self) -> None:
        self.server.ranges.append(self.headers.get("Range"))
        if self.path != "/file.bin":
            return self.send_error(404)
        if self.server.statuses:
            return self.send_error(self.server.statuses.pop(0))
        start = self.start()
        if start and start >= len(self.server.content):
            return self.send_error(416)
        self.send(start)

    def start(self) -> int:
        match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        return int(match[1]) if match and self.server.knows_range else 0

    def send(self, start: int) -> None:
        body = self.server.content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.server.drops:
            body = body[: self.server.drops.pop(0)]
        self.wfile.write(body)
        self.server.sent += len(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(module, "PAUSE", 0.0)
    with Server() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "data" / "file.bin"


def put_part(file: Path, content: bytes) -> Path:
    file.parent.mkdir(parents=True)
    part = file.with_name("file.bin.part")
    part.write_bytes(content)
    return part


def visible(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != ".download.lock")


def test_a_fresh_download_leaves_only_the_file(server: Server, file: Path) -> None:
    download(server.url(), file, SHA256)
    assert file.read_bytes() == CONTENT
    assert visible(file.parent) == ["file.bin"]
    assert server.ranges == [None]


def test_md5_is_understood_too(server: Server, file: Path) -> None:
    download(server.url(), file, f"md5:{hashlib.md5(CONTENT).hexdigest()}")
    assert file.read_bytes() == CONTENT


def test_a_part_is_resumed_and_only_the_rest_is_sent(server: Server, file: Path) -> None:
    put_part(file, CONTENT[:300_000])
    download(server.url(), file, SHA256)
    assert file.read_bytes() == CONTENT
    assert server.ranges == ["bytes=300000-"]
    assert server.sent == len(CONTENT) - 300_000


def test_a_server_that_ignores_range_sends_all_again(server: Server, file: Path) -> None:
    server.knows_range = False
    put_part(file, CONTENT[:300_000])
    download(server.url(), file, SHA256)
    assert file.read_bytes() == CONTENT
    assert server.sent == len(CONTENT)


def test_a_whole_part_is_kept(server: Server, file: Path) -> None:
    put_part(file, CONTENT)
    download(server.url(), file, SHA256)
    assert file.read_bytes() == CONTENT
    assert server.sent == 0


@pytest.mark.parametrize("part", [CONTENT + b"more", b"another version"], ids=["long", "stale"])
def test_a_part_that_does_not_fit_is_fetched_anew(server: Server, file: Path, part: bytes) -> None:
    put_part(file, part)
    download(server.url(), file, SHA256)
    assert file.read_bytes() == CONTENT
    assert server.ranges == [f"bytes={len(part)}-", None]


def test_a_dropped_connection_is_taken_up_where_it_broke(server: Server, file: Path) -> None:
    server.drops = [2 * CHUNK + 5, 10]
    download(server.url(), file, SHA256)
    assert file.read_bytes() == CONTENT
    assert len(server.ranges) == 3
    assert server.ranges[1] is not None
    resumed_at = int(server.ranges[1].removeprefix("bytes=").removesuffix("-"))
    assert CHUNK < resumed_at <= 2 * CHUNK + 5


def test_drops_without_end_leave_a_part_for_the_next_run(server: Server, file: Path) -> None:
    server.drops = [CHUNK + 5, 0, 0, 0]
    with pytest.raises(InputError, match="go on where it stopped"):
        download(server.url(), file, SHA256)
    assert visible(file.parent) == ["file.bin.part"]
    assert len(server.ranges) == module.ATTEMPTS
    download(server.url(), file, SHA256)
    assert file.read_bytes() == CONTENT


def test_a_busy_server_is_asked_again(server: Server, file: Path) -> None:
    server.statuses = [503, 500]
    download(server.url(), file, SHA256)
    assert file.read_bytes() == CONTENT


def test_the_pauses_grow(
    server: Server,
    file: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(module, "PAUSE", 1.0)
    monkeypatch.setattr(module.time, "sleep", pauses.append)
    server.statuses = [503] * 9
    with pytest.raises(InputError, match="503"):
        download(server.url(), file, SHA256)
    assert pauses == [1.0, 2.0, 4.0]
    told = [record.getMessage().rpartition("Attempt ")[2] for record in caplog.records]
    assert told == ["2 of 4 in 1 s.", "3 of 4 in 2 s.", "4 of 4 in 4 s."]


def test_a_server_that_is_not_there_is_told_of_in_short(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAUSE", 0.0)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with pytest.raises(InputError, match="Connection refused") as told:
        download("http://127.0.0.1:9/file.bin", file, SHA256)
    assert "Max retries" not in str(told.value)


def test_a_wrong_checksum_keeps_nothing(server: Server, file: Path) -> None:
    server.content = b"<html>please log in</html>"
    with pytest.raises(InputError, match="not the expected file") as caught:
        download(server.url(), file, SHA256)
    assert SHA256 in str(caught.value)
    assert str(file) in str(caught.value)
    assert visible(file.parent) == []
    assert len(server.ranges) == 1


def test_404_is_not_tried_again_and_names_url_and_path(server: Server, file: Path) -> None:
    with pytest.raises(InputError, match="404") as caught:
        download(server.url("gone.bin"), file, SHA256)
    assert f"fetch {server.url('gone.bin')} by hand and put it at {file}" in str(caught.value)
    assert len(server.ranges) == 1


def test_no_server_names_url_and_path(server: Server, file: Path) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as closed:
        url = f"http://127.0.0.1:{closed.server_port}/file.bin"
    with pytest.raises(InputError) as caught:
        download(url, file, SHA256)
    assert f"fetch {url} by hand and put it at {file}" in str(caught.value)


def test_a_relative_path_is_named_in_full(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as caught:
        download(server.url("gone.bin"), Path("data/gone.bin"), SHA256)
    assert str(tmp_path / "data" / "gone.bin") in str(caught.value)


def test_a_verified_file_is_not_fetched(server: Server, file: Path) -> None:
    file.parent.mkdir()
    file.write_bytes(CONTENT)
    download(server.url(), file, SHA256)
    assert server.ranges == []
    assert [path.name for path in file.parent.iterdir()] == ["file.bin"]  # not even a lock


def test_a_wrong_file_of_the_user_is_kept_and_reported(server: Server, file: Path) -> None:
    file.parent.mkdir()
    file.write_bytes(b"mine")
    with pytest.raises(InputError, match="Move it away"):
        download(server.url(), file, SHA256)
    assert file.read_bytes() == b"mine"
    assert server.ranges == []


def test_a_folder_that_cannot_be_made_is_an_input_error(server: Server, tmp_path: Path) -> None:
    (tmp_path / "occupied").write_text("a file")
    with pytest.raises(InputError, match="Could not download"):
        download(server.url(), tmp_path / "occupied" / "file.bin", SHA256)


def test_two_at_the_same_time_fetch_once(
    server: Server, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wait_then_send(handler: Handler, start: int) -> None:
        if len(server.ranges) > 1:
            server.second_request.set()
        server.second_request.wait(0.2)  # long enough for a second request, if nothing locks it out
        send(handler, start)

    send = Handler.send
    monkeypatch.setattr(Handler, "send", wait_then_send)
    with ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(download, server.url(), file, SHA256) for _ in range(2)]
    assert [run.result() for run in runs] == [None, None]
    assert server.ranges == [None]
    assert file.read_bytes() == CONTENT


def tar_of(archive: Path, members: dict[str, bytes], mode: Mode = "w:gz") -> Path:
    with tarfile.open(archive, mode) as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return archive


def zip_of(archive: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(archive, "w") as packed:
        for name, content in members.items():
            packed.writestr(name, content)
    return archive


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_extract_brings_the_wanted_entries_only(tmp_path: Path, mode: Mode) -> None:
    members = {"jpg/1.jpg": b"one", "jpg/2.jpg": b"two", "list.mat": b"list", "rest.txt": b"rest"}
    archive = tar_of(tmp_path / "all.tar", members, mode)
    extract(archive, tmp_path, "jpg", "list.mat")
    assert visible(tmp_path) == ["all.tar", "jpg", "list.mat"]
    assert (tmp_path / "jpg" / "2.jpg").read_bytes() == b"two"


@pytest.mark.parametrize("pack", [tar_of, zip_of])
def test_entries_below_others_are_lifted_out(tmp_path: Path, pack: Pack) -> None:
    members = {"set/jpg/a/1.jpg": b"one", "set/list.txt": b"list", "set/rest.txt": b"rest"}
    archive = pack(tmp_path / ("all.zip" if pack is zip_of else "all.tar"), members)
    extract(archive, tmp_path, "set/list.txt", "set/jpg")
    assert visible(tmp_path) == [archive.name, "jpg", "list.txt"]
    assert (tmp_path / "jpg" / "a" / "1.jpg").read_bytes() == b"one"
    (tmp_path / "list.txt").write_bytes(b"mine")
    archive.unlink()
    extract(archive, tmp_path, "set/list.txt", "set/jpg")
    assert (tmp_path / "list.txt").read_bytes() == b"mine"


@pytest.mark.parametrize("damage", ["torn", "flipped", "no archive"])
def test_a_damaged_zip_leaves_nothing(tmp_path: Path, damage: str) -> None:
    archive = zip_of(tmp_path / "all.zip", {"jpg/1.jpg": b"one" * 999, "jpg/2.jpg": b"two"})
    content = archive.read_bytes()
    flipped = content[:99] + b"?" + content[100:]
    damaged = {"torn": content[:-99], "flipped": flipped, "no archive": b"<html>"}
    archive.write_bytes(damaged[damage])
    with pytest.raises(InputError, match=r"Could not unpack .*all\.zip"):
        extract(archive, tmp_path, "jpg")
    assert visible(tmp_path) == ["all.zip"]


@pytest.mark.parametrize("name", ["../evil.txt", "jpg/../../../evil.txt", "/evil.txt"])
def test_a_zip_never_climbs_out(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    archive = zip_of(folder / "all.zip", {"jpg/1.jpg": b"one", name: b"evil"})
    extract(archive, folder, "jpg")
    assert visible(folder) == ["all.zip", "jpg"]
    assert not Path("/evil.txt").exists()
    assert [file.parent.name for file in tmp_path.rglob("evil.txt")] in ([], ["jpg"])


def test_extract_skips_existing_files(tmp_path: Path) -> None:
    archive = tar_of(tmp_path / "all.tar", {"jpg/1.jpg": b"one", "list.mat": b"list"})
    (tmp_path / "jpg").mkdir()
    (tmp_path / "jpg" / "mine.jpg").write_bytes(b"mine")
    extract(archive, tmp_path, "jpg", "list.mat")
    assert visible(tmp_path / "jpg") == ["mine.jpg"]
    assert (tmp_path / "list.mat").read_bytes() == b"list"


def test_extract_does_not_open_an_archive_it_does_not_need(tmp_path: Path) -> None:
    (tmp_path / "jpg").mkdir()
    extract(tmp_path / "absent.tar", tmp_path, "jpg")


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_a_truncated_archive_leaves_nothing(tmp_path: Path, mode: Mode) -> None:
    noise = b"".join(hashlib.sha256(bytes([i])).digest() for i in range(256))
    archive = tar_of(tmp_path / "all.tar", {"jpg/1.jpg": noise, "jpg/2.jpg": noise[::-1]}, mode)
    archive.write_bytes(archive.read_bytes()[:12_000])
    with pytest.raises(InputError, match="Could not unpack"):
        extract(archive, tmp_path, "jpg")
    assert visible(tmp_path) == ["all.tar"]


def test_a_file_that_is_no_archive_is_an_input_error(tmp_path: Path) -> None:
    (tmp_path / "all.tar").write_bytes(b"<html>")
    with pytest.raises(InputError, match=re.escape(str(tmp_path / "all.tar"))):
        extract(tmp_path / "all.tar", tmp_path, "jpg")


def test_an_archive_without_the_entry_is_an_input_error(tmp_path: Path) -> None:
    archive = tar_of(tmp_path / "all.tar", {"png/1.png": b"one"})
    with pytest.raises(InputError, match="jpg"):
        extract(archive, tmp_path, "jpg")
    assert visible(tmp_path) == ["all.tar"]


@pytest.mark.parametrize("name", ["../evil.txt", "jpg/../../../evil.txt"])
def test_an_archive_that_climbs_out_is_refused(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    archive = tar_of(folder / "all.tar", {"jpg/1.jpg": b"one", name: b"evil"})
    with pytest.raises(InputError, match="outside the destination"):
        extract(archive, folder, "jpg")
    assert visible(folder) == ["all.tar"]
    assert not list(tmp_path.rglob("evil.txt"))


def test_an_archive_with_a_link_to_the_outside_is_refused(tmp_path: Path) -> None:
    link = tarfile.TarInfo("jpg")
    link.type, link.linkname = tarfile.SYMTYPE, "../.."
    with tarfile.open(tmp_path / "all.tar", "w") as tar:
        tar.addfile(link)
    with pytest.raises(InputError, match="outside the destination"):
        extract(tmp_path / "all.tar", tmp_path, "jpg")
    assert visible(tmp_path) == ["all.tar"]


def test_what_a_killed_run_left_is_cleared(tmp_path: Path) -> None:
    archive = tar_of(tmp_path / "all.tar", {"jpg/1.jpg": b"one"})
    stale = tmp_path / ".all.tar.unpacking" / "jpg"
    stale.mkdir(parents=True)
    (stale / "half.jpg").write_bytes(b"half")
    extract(archive, tmp_path, "jpg")
    assert visible(tmp_path) == ["all.tar", "jpg"]
    assert visible(tmp_path / "jpg") == ["1.jpg"]


def test_an_interruption_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    archive = tar_of(tmp_path / "all.tar", {"jpg/1.jpg": b"one", "jpg/2.jpg": b"two"})
    monkeypatch.setattr(tarfile.TarFile, "chmod", interrupt)  # after the first file is written
    with pytest.raises(KeyboardInterrupt):
        extract(archive, tmp_path, "jpg")
    assert visible(tmp_path) == ["all.tar"]


def test_two_extractions_at_the_same_time(tmp_path: Path) -> None:
    archive = tar_of(tmp_path / "all.tar", {f"jpg/{i}.jpg": b"image" for i in range(200)})
    with ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(extract, archive, tmp_path, "jpg") for _ in range(2)]
    assert [run.result() for run in runs] == [None, None]
    assert len(visible(tmp_path / "jpg")) == 200


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_an_archive_that_unpacks_to_too_much_leaves_nothing(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Zeros: 64 MiB of them shrink to 64 kB."""
    monkeypatch.setattr(module, "SMALL", 2**20)
    archive = tmp_path / f"all.{kind}"
    zeros = bytes(2**23)
    if kind == "zip":
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
            for number in range(8):
                packed.writestr(f"jpg/{number}.jpg", zeros)
    else:
        tar_of(archive, {f"jpg/{number}.jpg": zeros for number in range(8)}, "w:gz")
    assert 100 * archive.stat().st_size < 8 * len(zeros)
    with pytest.raises(InputError, match=r"would unpack to more than 0\.0 GiB"):
        extract(archive, tmp_path, "jpg")
    assert visible(tmp_path) == [archive.name]
    monkeypatch.setattr(module, "SMALL", 2**26)
    extract(archive, tmp_path, "jpg")
    assert len(list((tmp_path / "jpg").iterdir())) == 8


def test_files_come_over_https_and_each_has_a_digest() -> None:
    """The server of Stanford Online Products is known to answer HTTP alone."""
    folder = Path(module.__file__).parent
    texts = {file.name: file.read_text() for file in folder.glob("*.py")}
    fetching = {name for name, text in texts.items() if "import download, extract" in text}
    assert fetching == {"cub.py", "dogs.py", "flowers.py", "sop.py"}
    plain = {name for name in fetching if '"http://' in texts[name]}
    assert plain == {"sop.py"}
    digests = {
        name: re.findall(r'"(?:md5:[0-9a-f]{32}|sha256:[0-9a-f]{64})"', texts[name])
        for name in fetching
    }
    assert {name: len(found) for name, found in digests.items()} == {
        "cub.py": 1, "dogs.py": 2, "flowers.py": 3, "sop.py": 1,
    }  # fmt: skip
