"""Stand-ins of a hub of models: an object with huggingface_hub's methods, and a server for itself.

Both keep repositories as tables, name -> path -> bytes.
"""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import unquote

Repositories = dict[str, dict[str, bytes]]
COMMIT = "a" * 40
MODEL = r"([^/]+/[^/]+)"


class Api:
    """As much of ``huggingface_hub.HfApi`` as is called, with its names of arguments."""

    def __init__(self, repositories: Repositories) -> None:
        self.repositories = repositories
        self.hidden: set[str] = set()

    def create_repo(self, repo_id: str, *, private: bool = False, exist_ok: bool = False) -> str:
        assert exist_ok
        if private and repo_id not in self.repositories:
            self.hidden.add(repo_id)
        self.repositories.setdefault(repo_id, {".gitattributes": b""})
        return f"https://hub.example/{repo_id}"

    def model_info(self, repo_id: str) -> SimpleNamespace:
        return SimpleNamespace(private=repo_id in self.hidden)

    def list_repo_files(self, repo_id: str) -> list[str]:
        return list(self.repositories[repo_id])

    def upload_folder(
        self,
        *,
        repo_id: str,
        folder_path: Path,
        allow_patterns: list[str],
        delete_patterns: list[str] | None,
        commit_message: str,
    ) -> None:
        files = self.repositories[repo_id]
        for name in [n for n in files if any(fnmatch(n, p) for p in delete_patterns or ())]:
            del files[name]
        for path in folder_path.iterdir():
            if any(fnmatch(path.name, pattern) for pattern in allow_patterns):
                files[path.name] = path.read_bytes()

    def snapshot_download(
        self, repo_id: str, *, local_dir: Path, allow_patterns: list[str]
    ) -> None:
        local_dir.mkdir(exist_ok=True)
        for name, data in self.repositories[repo_id].items():
            if any(fnmatch(name, pattern) for pattern in allow_patterns):
                (local_dir / name).write_bytes(data)


class Handler(BaseHTTPRequestHandler):
    """The requests that huggingface_hub makes to push and pull, with weights as LFS files."""

    protocol_version = "HTTP/1.1"
    repositories: Repositories
    large: dict[str, bytes]
    hidden: set[str]  # names of those that are private

    def answer(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        self.data = self.rfile.read(length)
        path = unquote(self.path.split("?")[0])
        for pattern, answer in self.routes().items():
            if match := re.fullmatch(pattern, path):
                return answer(*match.groups())
        self.send(dict(error="Repository not found"), 404, {"X-Error-Code": "RepoNotFound"})

    do_GET = do_POST = do_PUT = do_HEAD = answer

    def routes(self) -> dict[str, Any]:
        known = "|".join(map(re.escape, self.repositories)) or "-"
        return {
            "/api/repos/create": self.create,
            "/api/validate-yaml": lambda: self.send(dict(errors=[], warnings=[])),
            f"/api/models/{MODEL}/preupload/main": self.preupload,
            rf"/{MODEL}\.git/info/lfs/objects/batch": self.batch,
            r"/large/(\w+)": self.upload,
            f"/api/models/{MODEL}/commit/main": self.commit,
            f"/api/models/({known})/tree/[^/]+/?": self.tree,
            f"/api/models/({known})(?:/revision/.+)?": self.info,
            f"/({known})/resolve/[^/]+/(.+)": self.file,
        }

    def create(self) -> None:
        asked = json.loads(self.data)
        name = f"{asked['organization']}/{asked['name']}"
        # Versions of the library say it in either way.
        private = asked.get("private") or asked.get("visibility") == "private"
        if private and name not in self.repositories:
            self.hidden.add(name)
        self.repositories.setdefault(name, {".gitattributes": b""})
        self.send(dict(url=f"http://{self.headers['Host']}/{name}"))

    def preupload(self, _: str) -> None:
        modes = {True: "lfs", False: "regular"}
        files = [
            dict(path=file["path"], uploadMode=modes[file["path"].endswith("tensors")])
            for file in json.loads(self.data)["files"]
        ]
        self.send(dict(files=[dict(file, shouldIgnore=False) for file in files]))

    def batch(self, _: str) -> None:
        url = f"http://{self.headers['Host']}/large"
        objects = [
            dict(each, actions=dict(upload=dict(href=f"{url}/{each['oid']}")))
            for each in json.loads(self.data)["objects"]
        ]
        self.send(dict(transfer="basic", objects=objects))

    def upload(self, oid: str) -> None:
        self.large[oid] = self.data
        self.send({})

    def commit(self, name: str) -> None:
        files = self.repositories[name]
        for entry in map(json.loads, self.data.splitlines()):
            value = entry["value"]
            if entry["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                files[value["path"]] = self.large[value["oid"]]
            elif entry["key"] == "deletedFile":
                del files[value["path"]]
        url = f"https://huggingface.co/{name}/commit/{COMMIT}"  # it checks the host
        self.send(dict(commitUrl=url, commitOid=COMMIT))

    def tree(self, name: str) -> None:
        files = self.repositories[name].items()
        kind = dict(type="file")
        self.send([dict(kind, path=p, size=len(d), oid=_digest(d)) for p, d in files])

    def info(self, name: str) -> None:
        files = [dict(rfilename=path) for path in self.repositories[name]]
        self.send(dict(id=name, sha=COMMIT, private=name in self.hidden, siblings=files))

    def file(self, name: str, path: str) -> None:
        data = self.repositories[name][path]
        self.send(data, headers={"ETag": f'"{_digest(data)}"', "X-Repo-Commit": COMMIT})

    def send(self, content: Any, status: int = 200, headers: dict[str, str] | None = None) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Silence."""


@contextmanager
def serving(repositories: Repositories) -> Iterator[str]:
    """The address of a server of ``repositories``."""
    handler = type("Served", (Handler,), dict(repositories=repositories, large={}, hidden=set()))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        threading.Thread(target=httpd.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()


def _digest(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()
