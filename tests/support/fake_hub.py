"""A server with the part of the Hugging Face hub's interface that pushing and pulling a model takes."""

from __future__ import annotations

import base64
import hashlib
import http.server
import json
import re
import threading
from urllib.parse import unquote, urlsplit


class FakeHub:
    """Repositories in memory; a context manager.

    Attributes:
      repositories: files by repository and path.
      private: the repositories that were created as such.
      messages: of the commits.
      paths: what was asked for.
      token: what clients must send; "" = anybody may do everything.
      broken: statuses to answer with, used up one by one.
    """

    def __init__(self):
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.private: set[str] = set()
        self.messages: list[str] = []
        self.paths: list[str] = []
        self.token, self.broken = "", []
        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self.address = f"http://127.0.0.1:{self.server.server_address[1]}"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    def become_the_hub(self, monkeypatch, cache) -> None:
        """Makes this server the hub of the commands for a test, with an empty cache and no token."""
        monkeypatch.setenv("HF_ENDPOINT", self.address)
        monkeypatch.setenv("DEEPLAB_CACHE", str(cache))
        monkeypatch.delenv("HF_TOKEN", raising=False)

    def commit_of(self, repository: str) -> str:
        """The hash of a repository's content."""
        return hashlib.sha1(repr(sorted(self.repositories[repository].items())).encode()).hexdigest()


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: FakeHub

    def log_message(self, *_):
        pass

    def do_GET(self):
        self._answer(b"")

    def do_HEAD(self):
        self._answer(b"")

    def do_POST(self):
        self._answer(self.rfile.read(int(self.headers.get("Content-Length") or 0)))

    def _answer(self, body: bytes) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.paths.append(path)
        if self.hub.broken:
            return self._send(self.hub.broken.pop(0), {"error": "broken"})
        if self.hub.token and self.headers.get("Authorization") != f"Bearer {self.hub.token}":
            return self._send(401, {"error": "no token"}, {"X-Error-Message": "Invalid credentials"})
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if path == "/api/validate-yaml":
            return self._send(200, {"errors": [], "warnings": []})
        match = re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/(\w+)/(.+?))?", path) or re.fullmatch(
            r"/([^/]+/[^/]+)/(resolve)/([^/]+/.+)", path
        )
        if not match or match[1] not in self.hub.repositories:
            return self._send(404, {"error": "Repository not found"}, {"X-Error-Code": "RepoNotFound"})
        repository, action, rest = match[1], match[2] or "revision", match[3] or "main"
        if action == "revision" and rest not in ("main", self.hub.commit_of(repository)):
            return self._send(404, {"error": "Revision not found"}, {"X-Error-Code": "RevisionNotFound"})
        return getattr(self, f"_{action}")(repository, rest, body)

    def _create(self, wanted: dict) -> None:
        name = f"{wanted['organization']}/{wanted['name']}" if wanted.get("organization") else f"me/{wanted['name']}"
        status = 409 if name in self.hub.repositories else 200
        if status == 200:
            self.hub.repositories[name] = {".gitattributes": b""}
            if wanted.get("private") or wanted.get("visibility") == "private":
                self.hub.private.add(name)
        self._send(status, {"url": f"{self.hub.address}/{name}", "id": name})

    def _revision(self, repository: str, _revision: str, _body: bytes) -> None:
        files = self.hub.repositories[repository]
        siblings = [{"rfilename": name, "size": len(content)} for name, content in files.items()]
        self._send(200, {"id": repository, "sha": self.hub.commit_of(repository), "siblings": siblings, "tags": []})

    def _tree(self, repository: str, _rest: str, _body: bytes) -> None:
        files = self.hub.repositories[repository]
        listed = [
            {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
            for name, content in files.items()
        ]
        self._send(200, listed)

    def _preupload(self, _repository: str, _rest: str, body: bytes) -> None:
        names = [file["path"] for file in json.loads(body)["files"]]
        self._send(200, {"files": [{"path": name, "uploadMode": "regular", "shouldIgnore": False} for name in names]})

    def _commit(self, repository: str, _rest: str, body: bytes) -> None:
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "header":
                self.hub.messages.append(value["summary"])
            elif line["key"] == "file":
                self.hub.repositories[repository][value["path"]] = base64.b64decode(value["content"])
        commit = self.hub.commit_of(repository)
        url = f"{self.hub.address}/{repository}/commit/{commit}"
        self._send(200, {"success": True, "commitUrl": url, "commitOid": commit})

    def _resolve(self, repository: str, rest: str, _body: bytes) -> None:
        content = self.hub.repositories[repository].get(rest.partition("/")[2])
        if content is None:
            return self._send(404, {"error": "Entry not found"}, {"X-Error-Code": "EntryNotFound"})
        headers = {"X-Repo-Commit": self.hub.commit_of(repository), "ETag": f'"{hashlib.sha1(content).hexdigest()}"'}
        return self._send(200, content, headers)

    def _send(self, status: int, content: bytes | dict | list, headers: dict[str, str] | None = None) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)
