"""A local server with the few routes of the Hugging Face Hub that its client uses."""

import base64
import hashlib
import json
import re
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

COMMIT = "a" * 40


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
            self._json({"url": f"http://hub/{self.created[-1]['name']}"})
        elif "/preupload/" in self.path:
            files = json.loads(body)["files"]
            each = [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in files]
            self._json({"files": each})
        elif "/commit/" in self.path:
            repository = self.folder / "models" / self.path.split("/commit/")[0][len("/api/models/"):]
            repository.mkdir(parents=True, exist_ok=True)
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    content = base64.b64decode(line["value"]["content"])
                    (repository / line["value"]["path"]).write_bytes(content)
            self._json({"commitUrl": f"http://hub/commit/{COMMIT}", "commitOid": COMMIT})
        else:
            self._json({})  # validate-yaml

    def _answer(self) -> None:
        path = self.path.replace("%2F", "/").partition("?")[0]
        asked = re.fullmatch(r"/api/(models|datasets)/([\w-]+/[\w-]+)(?:/(revision|tree)/(.+?))?", path)
        if asked:
            files = self._files(asked[1], asked[2], asked[4] or "main")
            if files is None:
                return self._missing("RevisionNotFound" if asked[4] != "main" else "RepoNotFound")
            if asked[3] == "tree":
                listed = [
                    {"type": "file", "path": n, "size": f.stat().st_size, "oid": _digest(f)}
                    for n, f in files.items()
                ]
                return self._json(listed)
            siblings = [{"rfilename": name} for name in files]
            return self._json({"id": asked[2], "sha": COMMIT, "siblings": siblings})
        asked = re.fullmatch(r"/(?:(datasets)/)?([\w-]+/[\w-]+)/resolve/([^/]+)/(.+)", path)
        for kind in ("models", "datasets") if asked else ():
            for each in (self.folder / kind).glob(f"{asked[2]}*/{asked[4]}"):
                return self._send(each.read_bytes(), each)
        self._missing("EntryNotFound")

    def _files(self, kind: str, name: str, revision: str) -> dict[str, Path] | None:
        marked = "" if revision in ("main", COMMIT) else f"@{revision.replace('/', '-')}"
        root = self.folder / kind / f"{name}{marked}"
        if revision == COMMIT and not root.is_dir():
            root = next(iter((self.folder / kind).glob(f"{name}@*")), root)
        found = {f.relative_to(root).as_posix(): f for f in sorted(root.rglob("*")) if f.is_file()}
        return found if root.is_dir() else None

    def _json(self, content: Any) -> None:
        self._send(json.dumps(content).encode())

    def _send(self, content: bytes, file: Path | None = None) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("X-Repo-Commit", COMMIT)
        if file:
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
