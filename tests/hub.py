"""A hub on this machine: it speaks what huggingface_hub asks, over loopback, and misbehaves when told to."""

import hashlib
import json
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(ThreadingHTTPServer):
    """Serves folders as repositories; `asked` is every request as (method, path, range)."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.repos: dict[str, Path] = {}
        self.licence = "openrail"
        self.asked: list[tuple[str, str, str]] = []
        self.refuses: tuple[int, str] | None = None  # status, and the hub's own code for why
        self.cut: int | None = None  # bytes after which the next answer breaks off
        self.lies: dict[str, bytes] = {}  # file -> what is sent in its place
        self.stalls = 0.0  # seconds before any answer

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"

    def siblings(self, repo: str) -> list[dict]:
        root = self.repos[repo]
        return [_sibling(root, path) for path in sorted(root.rglob("*")) if path.is_file()]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Hub

    def do_GET(self):
        self.server.asked.append(("GET", self.path, self.headers.get("Range", "")))
        time.sleep(self.server.stalls)
        path = unquote(urlsplit(self.path).path).strip("/")
        if self.server.refuses:
            status, code = self.server.refuses
            return self._answer(status, b"{}", {"X-Error-Code": code, "X-Error-Message": code})
        if path.startswith("api/models/"):
            return self._tell(path.removeprefix("api/models/"))
        repo, _, name = path.partition(f"/resolve/{COMMIT}/")
        file = self.server.repos.get(repo, Path("/nowhere")) / name
        if not file.is_file():
            return self._answer(404, b"{}", {"X-Error-Code": "EntryNotFound"})
        self._send(self.server.lies.get(name) or file.read_bytes())

    def _tell(self, repo: str):
        if repo not in self.server.repos:
            return self._answer(404, b"{}", {"X-Error-Code": "RepoNotFound"})
        told = {
            "id": repo, "sha": COMMIT, "siblings": self.server.siblings(repo),
            "cardData": {"license": self.server.licence},
        }  # fmt: skip
        self._answer(200, json.dumps(told).encode(), {"Content-Type": "application/json"})

    def _send(self, content: bytes):
        begin = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").split("-")[0])
        rest = content[begin:]
        headers = {"ETag": '"x"', "X-Repo-Commit": COMMIT}
        if begin:
            headers["Content-Range"] = f"bytes {begin}-{len(content) - 1}/{len(content)}"
        cut, self.server.cut = self.server.cut, None
        self._answer(206 if begin else 200, rest, headers, cut)

    def _answer(self, status: int, body: bytes, headers: dict, cut: int | None = None):
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body[:cut])
        if cut is not None:
            self.close_connection = True

    def log_message(self, *args):
        pass


@contextmanager
def hub_on_loopback(monkeypatch):
    """A running hub, and huggingface_hub pointed at it."""
    from huggingface_hub import constants

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", 16 * 1024)
    hub = Hub()
    monkeypatch.setenv("HF_ENDPOINT", hub.address)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    thread = threading.Thread(target=hub.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
        thread.join()


def _sibling(root: Path, path: Path) -> dict:
    content = path.read_bytes()
    told = {
        "rfilename": path.relative_to(root).as_posix(),
        "size": len(content),
        "blobId": hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest(),
    }
    if path.suffix in (".safetensors", ".bin"):
        sha = hashlib.sha256(content).hexdigest()
        told["lfs"] = {"sha256": sha, "size": len(content), "pointerSize": 134}
    return told
