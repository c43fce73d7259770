"""A local server with the few routes of the Hugging Face Hub that its client uses."""

import base64
import hashlib
import json
import re
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any


class FakeHub(BaseHTTPRequestHandler):
    """Repositories are folders: <folder>/models/<user>/<name>/, <folder>/datasets/<user>/<name>/.

    A revision other than main is a folder "<name>@<revision>" beside it.
    """

    folder: Path
    created: list[dict[str, Any]]

    def log_message(self, format: str, *args: Any) -> None:
        """Be quiet."""

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/api/repos/create":
            self.created.append(json.loads(body))
            self._json({"url": f"http://{self.headers['Host']}/me/{self.created[-1]['name']}"})
        elif "/preupload/" in self.path:
            files = json.loads(body)["files"]
            each = [
                {"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in files
            ]
            self._json({"files": each})
        elif "/commit/" in self.path:
            repository = (
                self.folder / "models" / self.path.split("/commit/")[0][len("/api/models/") :]
            )
            repository.mkdir(parents=True, exist_ok=True)
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    content = base64.b64decode(line["value"]["content"])
                    (repository / line["value"]["path"]).write_bytes(content)
            self._json(
                {
                    "commitUrl": f"http://{self.headers['Host']}/me/net/commit/{40 * 'a'}",
                    "commitOid": 40 * "a",
                }
            )
        else:
            self._json({})  # validate-yaml

    def _answer(self) -> None:
        path = self.path.replace("%2F", "/").partition("?")[0]
        asked = re.fullmatch(r"/api/(models|datasets)/([\w-]+/[\w-]+)/(revision|tree)/(.+?)", path)
        if asked:
            kind, name, what, revision = asked.groups()
            root = self._root(kind, name, revision)
            if root is None:
                return self._missing("RepoNotFound" if revision == "main" else "RevisionNotFound")
            files = sorted(file for file in root.rglob("*") if file.is_file())
            names = [file.relative_to(root).as_posix() for file in files]
            if what == "revision":
                siblings = [{"rfilename": each} for each in names]
                return self._json({"id": name, "sha": _commit(root), "siblings": siblings})
            sizes = [file.stat().st_size for file in files]
            return self._json([
                {"type": "file", "path": each, "size": size, "oid": _digest(file)}
                for each, size, file in zip(names, sizes, files, strict=True)
            ])  # fmt: skip
        asked = re.fullmatch(r"/(datasets/)?([\w-]+/[\w-]+)/resolve/([^/]+)/(.+)", path)
        root = (
            self._root("datasets" if asked[1] else "models", *asked.group(2, 3)) if asked else None
        )
        if root is None or not (root / asked[4]).is_file():
            return self._missing("EntryNotFound")
        self._send((root / asked[4]).read_bytes(), root / asked[4])

    def _root(self, kind: str, name: str, revision: str) -> Path | None:
        """The folder of a repository at a branch or a commit."""
        marked = "" if revision == "main" else f"@{revision.replace('/', '-')}"
        root = self.folder / kind / f"{name}{marked}"
        known = [root, *(self.folder / kind).glob(f"{name}*")]
        return next(
            (r for r in known if r.is_dir() and (r == root or _commit(r) == revision)), None
        )

    def _json(self, content: Any) -> None:
        self._send(json.dumps(content).encode())

    def _send(self, content: bytes, file: Path | None = None) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        if file:
            self.send_header("X-Repo-Commit", self.path.split("/resolve/")[1].split("/")[0])
            self.send_header("ETag", f'"{_digest(file)}"')
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _missing(self, code: str) -> None:
        self.send_response(404)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()


def _digest(file: Path) -> str:
    return hashlib.sha1(file.read_bytes()).hexdigest()


def _commit(root: Path) -> str:
    """Of what lies there now."""
    inside = [f"{root} {file.relative_to(root)}" for file in sorted(root.rglob("*"))]
    return hashlib.sha1("\n".join(inside).encode()).hexdigest()
