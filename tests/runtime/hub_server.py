"""A Hugging Face hub on this machine: what huggingface_hub asks for downloads and commits.

The paths and headers are those of huggingface_hub's own code; nothing of ours answers them.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

TOKEN = "hf_test"


@dataclass
class Repo:
    """Commits by branch or tag, and the files of every commit."""

    private: bool = False
    refs: dict[str, str] = field(default_factory=dict)
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)

    def commit(self, files: dict[str, bytes], revision: str = "main") -> str:
        number = hashlib.sha1(f"{len(self.commits)}".encode()).hexdigest()
        self.commits[number] = dict(files)
        self.refs[revision] = number
        return number

    def files(self, revision: str) -> tuple[str, dict[str, bytes]] | None:
        number = self.refs.get(revision, revision)
        found = self.commits.get(number)
        return None if found is None else (number, found)


@dataclass
class Hub:
    """The repositories, what was asked for, and where."""

    address: str = ""
    repos: dict[str, Repo] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    stored: dict[str, bytes] = field(default_factory=dict)  # large files by their sha256

    def forget(self) -> None:
        """Make it as if it were new."""
        self.repos.clear()
        self.asked.clear()
        self.stored.clear()

    def downloads(self) -> list[str]:
        """Return the files that were fetched, and not only asked about."""
        files = [line for line in self.asked if line.startswith("GET /") and "/resolve/" in line]
        return [line.split("/resolve/")[1] for line in files]


@contextmanager
def hub_at_work() -> Iterator[Hub]:
    """Run a hub on a free port of this machine."""
    hub = Hub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    hub.address = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def files_of(folder: Path) -> dict[str, bytes]:
    """Return a folder's files by their paths."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *arguments: Any) -> None:
        """Say nothing."""

    def do_HEAD(self) -> None:
        self._file()

    def do_GET(self) -> None:
        if found := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/([^/?]+).*", self.path):
            self._list(found[1], unquote(found[2]))
        else:
            self._file()

    def do_PUT(self) -> None:
        content = self._body()
        number = self.path.removeprefix("/storage/")
        assert hashlib.sha256(content).hexdigest() == number
        self.hub.stored[number] = content
        self._json({})

    def do_POST(self) -> None:
        body = self._body()
        self.hub.asked.append(f"POST {self.path}")
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._refuse(401, "", "Invalid username or password.")
        elif self.path == "/api/repos/create":
            self._create(json.loads(body))
        elif self.path == "/api/validate-yaml":
            self._validate(json.loads(body)["content"])
        elif found := re.fullmatch(r"/api/models/(.+/.+)/branch/(.+)", self.path):
            repo = self.hub.repos[found[1]]
            repo.refs.setdefault(unquote(found[2]), repo.refs["main"])
            self._json({})
        elif re.fullmatch(r"/api/models/.+/.+/preupload/.+", self.path):
            asked = json.loads(body)["files"]
            large = re.compile(r".*(\.onnx|\.onnx_data)")
            self._json({"files": [
                {
                    "path": one["path"],
                    "uploadMode": "lfs" if large.fullmatch(one["path"]) else "regular",
                    "shouldIgnore": False,
                }
                for one in asked
            ]})  # fmt: skip
        elif self.path.endswith(".git/info/lfs/objects/batch"):
            objects = json.loads(body)["objects"]
            self._json({"transfer": "basic", "objects": [self._place(one) for one in objects]})
        elif found := re.fullmatch(r"/api/models/(.+/.+)/commit/(.+)", self.path):
            self._commit(found[1], unquote(found[2]), body)
        else:
            self._refuse(404, "", self.path)

    def _place(self, one: dict[str, Any]) -> dict[str, Any]:
        place = {"href": f"{self.hub.address}/storage/{one['oid']}"}
        known = one["oid"] in self.hub.stored
        return one if known else {**one, "actions": {"upload": place}}

    def _create(self, asked: dict[str, Any]) -> None:
        name = f"{asked['organization']}/{asked['name']}"
        if name in self.hub.repos:
            address = f"{self.hub.address}/{name}"
            self._json({"error": "You already created this model repo", "url": address}, 409)
            return
        repo = self.hub.repos[name] = Repo(bool(asked.get("private")))
        repo.commit({".gitattributes": b""})
        self._json({"url": f"{self.hub.address}/{name}"})

    def _validate(self, card: str) -> None:
        import yaml

        said = yaml.safe_load(card.split("---\n")[1])
        wrong = [name for name in said if not isinstance(said[name], (str, list))]
        errors = [{"message": f"{name} is no text"} for name in wrong]
        self._json({"errors": errors, "warnings": []}, 400 if wrong else 200)

    def _commit(self, name: str, revision: str, body: bytes) -> None:
        repo = self.hub.repos[name]
        known = repo.files(revision)
        assert known is not None
        files = dict(known[1])
        for line in body.decode().splitlines():
            part = json.loads(line)
            value = part["value"]
            if part["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif part["key"] == "lfsFile":
                files[value["path"]] = self.hub.stored[value["oid"]]
            elif part["key"] == "deletedFile":
                del files[value["path"]]
        number = repo.commit(files, revision)
        address = f"{self.hub.address}/{name}/commit/{number}"
        self._json({"success": True, "commitOid": number, "commitUrl": address, "hookOutput": ""})

    def _list(self, name: str, revision: str) -> None:
        known = self.hub.repos[name].files(revision)
        assert known is not None
        self._json(
            [
                {"type": "file", "path": path, "size": len(content), "oid": _oid(content)}
                for path, content in known[1].items()
            ]
        )

    def _file(self) -> None:
        self.hub.asked.append(f"{self.command} {self.path}")
        found = re.fullmatch(r"/(.+/.+)/resolve/([^/]+)/(.+)", self.path)
        repo = self.hub.repos.get(found[1]) if found else None
        allowed = repo is not None and (
            not repo.private or self.headers.get("Authorization") == f"Bearer {TOKEN}"
        )
        if found is None or repo is None or not allowed:
            self._refuse(401, "RepoNotFound", "Invalid username or password.")
        elif (known := repo.files(unquote(found[2]))) is None:
            self._refuse(404, "RevisionNotFound", f"Invalid rev id: {found[2]}")
        elif found[3] not in known[1]:
            self._refuse(404, "EntryNotFound", "Entry not found", {"X-Repo-Commit": known[0]})
        else:
            content = known[1][found[3]]
            headers = {"ETag": f'"{_oid(content)}"', "X-Repo-Commit": known[0]}
            self._answer(200, content, headers)

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def _json(self, value: Any, status: int = 200) -> None:
        self._answer(status, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _refuse(
        self, status: int, code: str, message: str, headers: dict[str, str] | None = None
    ) -> None:
        told = {"X-Error-Code": code, "X-Error-Message": message, **(headers or {})}
        self._answer(status, b"", told)

    def _answer(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)


def _oid(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()
