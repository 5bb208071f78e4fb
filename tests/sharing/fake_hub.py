"""A Hub on the loopback interface: as much of its HTTP API as uploading and downloading a model takes.

Repositories, commits, branches, tokens, private and gated repositories, the upload of large files by LFS, the check of
a model card's metadata, and the codes of the Hub's errors. It keeps a log of what it was asked.
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
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import yaml

TOKENS = {"hf_ann": "ann", "hf_bob": "bob"}
LARGE = (".safetensors", ".bin", ".pkl")


@dataclass
class Repository:
    private: bool = False
    gated: bool = False
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)

    def commit(self, branch: str, files: dict[str, bytes], message: str) -> str:
        sha = hashlib.sha1(f"{branch} {len(self.commits)} {sorted(files)}".encode()).hexdigest()
        self.commits[sha] = files
        self.branches[branch] = sha
        self.messages.append(message)
        return sha

    def resolve(self, revision: str) -> str | None:
        return self.branches.get(revision, revision if revision in self.commits else None)


@dataclass
class FakeHub:
    repositories: dict[str, Repository] = field(default_factory=dict)
    uploads: dict[str, bytes] = field(default_factory=dict)
    log: list[tuple[str, str, str | None]] = field(default_factory=list)
    """Method, path and user of each request."""
    failures: dict[str, int] = field(default_factory=dict)
    """Status to answer with where the path has this in it."""
    wrong_sizes: dict[str, int] = field(default_factory=dict)
    """Sizes that are told of files instead of their own."""
    endpoint: str = ""

    def add(self, name: str, files: dict[str, bytes], **options: Any) -> str:
        self.repositories[name] = Repository(**options)
        return self.repositories[name].commit("main", files, "first")

    def downloaded(self) -> list[str]:
        """The files that somebody got the content of."""
        return [path.rpartition("/")[2] for method, path, _ in self.log if method == "GET" and "/resolve/" in path]


class Answer(Exception):
    """Ends a request with a status, and the Hub's own code of the error."""

    def __init__(self, status: int, code: str = "", message: str = "", body: Any = None) -> None:
        self.status, self.code, self.message, self.body = status, code, message, body


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: FakeHub

    def log_message(self, *args: Any) -> None:
        pass

    def _serve(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        chunked = self.headers.get("Transfer-Encoding") == "chunked"
        content = b"".join(self._chunks()) if chunked else self.rfile.read(length)
        url = urlsplit(self.path)
        self.query = parse_qs(url.query)
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        self.user = TOKENS.get(token)
        self.hub.log.append((self.command, unquote(url.path), self.user))
        try:
            if token and self.user is None:
                raise Answer(401, message="Invalid username or password.")
            for part, status in self.hub.failures.items():
                if part in url.path:
                    raise Answer(status, message=f"made up for a test: {status}")
            for method, pattern, function in ROUTES:
                found = re.fullmatch(pattern, url.path)
                if found and self.command in method:
                    function(self, content, *map(unquote, found.groups()))
                    return
            raise Answer(404, message="no such page")
        except Answer as answer:
            self._send(answer.status, answer.body or {"error": answer.message}, {"X-Error-Code": answer.code})

    do_GET = do_HEAD = do_POST = do_PUT = _serve

    def _chunks(self) -> Iterator[bytes]:
        while size := int(self.rfile.readline(), 16):
            yield self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()

    def _send(self, status: int, body: Any = None, headers: dict[str, str] | None = None) -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(content)), "X-Request-Id": "test", **(headers or {})}.items():
            if value:
                self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def _repository(self, name: str, write: bool = False) -> Repository:
        found = self.hub.repositories.get(name)
        owner = name.partition("/")[0]
        if found is None or (found.private and self.user != owner):
            raise Answer(401 if self.user is None else 404, "RepoNotFound", "Repository not found")
        if write and self.user != owner:
            raise Answer(403, message=f"You don't have the rights to write to {name}")
        return found

    def _files(self, name: str, revision: str) -> tuple[str, dict[str, bytes]]:
        repository = self._repository(name)
        commit = repository.resolve(revision)
        if commit is None:
            raise Answer(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        return commit, repository.commits[commit]

    def create(self, content: bytes) -> None:
        asked = json.loads(content)
        owner = asked.get("organization") or self.user
        if self.user is None or owner != self.user:
            raise Answer(403 if self.user else 401, message=f"You don't have the rights to create a model for {owner}")
        name = f"{owner}/{asked['name']}"
        if name in self.hub.repositories:
            raise Answer(409, message="You already created this model repo", body={"error": "exists", "url": name})
        repository = self.hub.repositories[name] = Repository(private=asked.get("visibility") == "private")
        repository.commit("main", {".gitattributes": b"*.safetensors filter=lfs\n"}, "initial commit")
        self._send(200, {"url": f"{self.hub.endpoint}/{name}", "name": name})

    def info(self, content: bytes, name: str, revision: str = "main") -> None:
        commit, files = self._files(name, revision)
        repository = self.hub.repositories[name]
        blobs = {"blobs": True} if "blobs" in self.query else {}
        siblings = [
            {"rfilename": path, **({"size": self.hub.wrong_sizes.get(path, len(data))} if blobs else {})}
            for path, data in files.items()
        ]
        self._send(
            200,
            {
                "_id": "1",
                "id": name,
                "modelId": name,
                "sha": commit,
                "private": repository.private,
                "gated": "manual" if repository.gated else False,
                "siblings": siblings,
                "tags": [],
                "downloads": 0,
                "likes": 0,
            },
        )

    def branch(self, content: bytes, name: str, branch: str) -> None:
        repository = self._repository(name, write=True)
        if branch in repository.branches:
            raise Answer(409, message="Reference already exists")
        repository.branches[branch] = repository.branches["main"]
        self._send(200, {})

    def preupload(self, content: bytes, name: str, revision: str) -> None:
        self._repository(name, write=True)
        files = [
            {
                "path": file["path"],
                "uploadMode": "lfs" if file["path"].endswith(LARGE) else "regular",
                "shouldIgnore": False,
            }
            for file in json.loads(content)["files"]
        ]
        self._send(200, {"files": files})

    def batch(self, content: bytes, name: str) -> None:
        self._repository(name, write=True)
        objects = [
            {**asked, "actions": {"upload": {"href": f"{self.hub.endpoint}/lfs/{asked['oid']}", "header": {}}}}
            for asked in json.loads(content)["objects"]
        ]
        self._send(200, {"transfer": "basic", "objects": objects})

    def store(self, content: bytes, oid: str) -> None:
        assert hashlib.sha256(content).hexdigest() == oid
        self.hub.uploads[oid] = content
        self._send(200, {})

    def commit(self, content: bytes, name: str, revision: str) -> None:
        repository = self._repository(name, write=True)
        before = repository.resolve(revision)
        if before is None:
            raise Answer(404, "RevisionNotFound", f"Invalid rev id: {revision}")
        files, message = dict(repository.commits[before]), ""
        for line in content.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "header":
                message = value["summary"]
            elif entry["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                files[value["path"]] = self.hub.uploads[value["oid"]]
        sha = repository.commit(revision, files, message)
        self._send(200, {"commitUrl": f"{self.hub.endpoint}/{name}/commit/{sha}", "commitOid": sha})

    def validate(self, content: bytes) -> None:
        """Refuse what the Hub refuses: metadata that is no YAML, a base model or licence that is none."""
        _, metadata, _ = json.loads(content)["content"].split("---\n", 2)
        values, errors = yaml.safe_load(metadata), []
        if not re.fullmatch(r"[\w.-]+/[\w.-]+|[\w.-]+", values.get("base_model", "none")):
            errors.append({"message": '"base_model" is not valid. Use a model id from https://hf.co/models.'})
        if values.get("license") not in (None, "apache-2.0", "mit", "other"):
            errors.append({"message": '"license" must be one of [apache-2.0, mit, other]'})
        for model in values.get("model-index", []):
            if not model["name"] or not all({"task", "dataset", "metrics"} <= set(each) for each in model["results"]):
                errors.append({"message": '"model-index" is not valid'})
        self._send(400 if errors else 200, {"errors": errors, "warnings": []})

    def tree(self, content: bytes, name: str, revision: str) -> None:
        _, files = self._files(name, revision)
        entries = []
        for path, data in files.items():
            large = {"oid": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 134}
            blob = hashlib.sha1(data).hexdigest()
            entry = {"type": "file", "path": path, "size": len(data), "oid": blob}
            entries.append({**entry, "lfs": large} if path.endswith(LARGE) else entry)
        self._send(200, entries)

    def resolve(self, content: bytes, name: str, revision: str, path: str) -> None:
        commit, files = self._files(name, revision)
        if self.hub.repositories[name].gated and self.user != name.partition("/")[0]:
            raise Answer(403 if self.user else 401, "GatedRepo", f"Access to model {name} is restricted")
        if path not in files:
            raise Answer(404, "EntryNotFound", "Entry not found")
        data = files[path]
        digest = hashlib.sha256(data) if path.endswith(LARGE) else hashlib.sha1(data)
        self._send(200, data, {"X-Repo-Commit": commit, "ETag": f'"{digest.hexdigest()}"'})


_NAME = r"([^/]+/[^/]+?)"
ROUTES: list[tuple[tuple[str, ...], str, Any]] = [
    (("POST",), "/api/repos/create", Handler.create),
    (("POST",), "/api/validate-yaml", Handler.validate),
    (("POST",), f"/api/models/{_NAME}/branch/([^/]+)", Handler.branch),
    (("POST",), f"/api/models/{_NAME}/preupload/([^/]+)", Handler.preupload),
    (("POST",), f"/api/models/{_NAME}/commit/([^/]+)", Handler.commit),
    (("GET",), f"/api/models/{_NAME}/tree/([^/]+)/?", Handler.tree),
    (("GET",), f"/api/models/{_NAME}/revision/([^/]+)", Handler.info),
    (("GET",), f"/api/models/{_NAME}", Handler.info),
    (("POST",), rf"/{_NAME}\.git/info/lfs/objects/batch", Handler.batch),
    (("PUT",), "/lfs/([0-9a-f]{64})", Handler.store),
    (("GET", "HEAD"), f"/{_NAME}/resolve/([^/]+)/(.+)", Handler.resolve),
]


@contextmanager
def running_hub() -> Iterator[FakeHub]:
    hub = FakeHub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("BoundHandler", (Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
