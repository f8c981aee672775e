"""Against a small server on this machine that can break off and may or may not resume."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from fcn_plugin.errors import UserError
from fcn_plugin.system import download as downloading
from fcn_plugin.system import progress
from fcn_plugin.system.download import Digest, download, why_unreachable
from fcn_plugin.system.progress import progress_bar

CONTENT = bytes(range(256)) * 4000
SHA256 = Digest("sha256", hashlib.sha256(CONTENT).hexdigest())
SHA1 = Digest("sha1", hashlib.sha1(CONTENT).hexdigest()[:8])


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(downloading, "PAUSE", 0)

    class Handler(BaseHTTPRequestHandler):
        breaks_at: int | None = None  # byte of the file
        breaks_after: int | None = None  # bytes of an answer
        resumes = True
        announces = True
        asked: list = []  # one list for all requests, on purpose

        def do_GET(self):
            wanted = self.headers.get("Range")
            self.asked.append(wanted)
            start = int(wanted[6:-1]) if wanted and self.resumes else 0
            if start >= len(CONTENT):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(CONTENT)}")
                self.end_headers()
                return
            self.send_response(206 if start else 200)
            if self.announces:
                self.send_header("Content-Length", str(len(CONTENT) - start))
            self.end_headers()
            self.wfile.write(CONTENT[start : self.breaks_at][: self.breaks_after])

        def do_HEAD(self):
            self.send_response(200 if self.path == "/file.bin" else 404)
            self.end_headers()

        def log_message(self, *args):
            """Silence."""

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=httpd.serve_forever, args=(0.01,), daemon=True).start()
    Handler.url = f"http://127.0.0.1:{httpd.server_port}/file.bin"
    yield Handler
    httpd.shutdown()
    httpd.server_close()


@pytest.mark.parametrize("announces", [True, False])
def test_whole_and_only_once(server, tmp_path, announces):
    server.announces = announces  # its length
    target = tmp_path / "new" / "file.bin"
    for _ in range(2):
        assert download(server.url, target, SHA1).read_bytes() == CONTENT
    assert len(server.asked) == 1
    assert [file.name for file in target.parent.iterdir()] == ["file.bin"]


def test_breaks_off_again_and_again(server, tmp_path):
    server.breaks_after = 300_000
    assert download(server.url, tmp_path / "file.bin", SHA256).read_bytes() == CONTENT
    assert server.asked == [None, "bytes=300000-", "bytes=600000-", "bytes=900000-"]


@pytest.mark.parametrize(("digest", "resumes"), [(SHA256, True), (None, False)])
def test_gives_up_without_new_bytes_and_the_next_run_goes_on(server, tmp_path, resumes, digest):
    target = tmp_path / "file.bin"
    server.breaks_at, server.resumes = 300_000, resumes
    with pytest.raises(UserError, match=r"ended at 300000 of 1024000.*put it at"):
        download(server.url, target, digest)
    assert not target.exists()
    server.breaks_at = None
    assert download(server.url, target, digest).read_bytes() == CONTENT
    assert server.asked == [None, "bytes=300000-", "bytes=300000-"]


@pytest.mark.parametrize(
    ("more", "asked"), [(b"", ["bytes=1024000-"]), (b"?", ["bytes=1024001-", None])]
)
def test_a_part_that_is_complete_or_too_long(server, tmp_path, more, asked):
    (tmp_path / "file.bin.part").write_bytes(CONTENT + more)
    assert download(server.url, tmp_path / "file.bin", SHA256).read_bytes() == CONTENT
    assert server.asked == asked


def test_another_hash_is_refused_and_the_next_try_starts_over(server, tmp_path):
    with pytest.raises(UserError, match=f"has sha1 {SHA1.digits}.*, expected 00"):
        download(server.url, tmp_path / "file.bin", Digest("sha1", "00"))
    assert list(tmp_path.iterdir()) == []


def test_whether_there_is_a_download(server):
    assert why_unreachable(server.url, 5) == "" and not server.asked
    assert why_unreachable(f"{server.url}.other", 5) == "Not Found"
    assert "refused" in why_unreachable("http://127.0.0.1:1/file.bin", 5)


def test_a_line_now_and_then_in_a_log(monkeypatch, capsys):
    with progress_bar() as tell:
        tell("At once", 1, 3)
        monkeypatch.setattr(progress, "LINE_PAUSE", 0)
        tell("Reading", 2, 3)
        tell("Fetching", 2000, 0)
    assert capsys.readouterr().err == "Reading: 66 %\nFetching: 2,000\n"
