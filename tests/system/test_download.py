"""Against a small server on this machine that can break off and may or may not resume."""

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from fcn_plugin.errors import UserError
from fcn_plugin.system import download as downloading
from fcn_plugin.system.download import Digest, download

CONTENT = bytes(range(256)) * 4000
SHA256 = Digest("sha256", hashlib.sha256(CONTENT).hexdigest())


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

        def log_message(self, *args):
            """Silence."""

    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=httpd.serve_forever, args=(0.01,), daemon=True).start()
    Handler.url = f"http://127.0.0.1:{httpd.server_port}/file.bin"
    yield Handler
    httpd.shutdown()
    httpd.server_close()


def test_whole_and_only_once(server, tmp_path):
    target = tmp_path / "new" / "file.bin"
    assert (
        download(server.url, target, SHA256._replace(digits=SHA256.digits[:8])).read_bytes()
        == CONTENT
    )
    download(server.url, target, SHA256._replace(digits=SHA256.digits[:8]))
    assert len(server.asked) == 1
    assert [file.name for file in target.parent.iterdir()] == ["file.bin"]


def test_breaks_off_again_and_again(server, tmp_path):
    server.breaks_after = 300_000
    assert download(server.url, tmp_path / "file.bin", SHA256).read_bytes() == CONTENT
    assert server.asked == [None, "bytes=300000-", "bytes=600000-", "bytes=900000-"]


@pytest.mark.parametrize("resumes", [True, False])
def test_gives_up_without_new_bytes_and_the_next_run_goes_on(server, tmp_path, resumes):
    target = tmp_path / "file.bin"
    server.breaks_at, server.resumes = 300_000, resumes
    with pytest.raises(UserError, match=r"ended at 300000 of 1024000.*put it at"):
        download(server.url, target, SHA256)
    assert not target.exists()
    server.breaks_at = None
    assert download(server.url, target, SHA256).read_bytes() == CONTENT
    assert server.asked == [None, "bytes=300000-", "bytes=300000-"]


def test_waits_before_the_next_attempt(server, tmp_path, monkeypatch):
    waited = []
    monkeypatch.setattr(downloading, "PAUSE", 1)
    monkeypatch.setattr(downloading.time, "sleep", waited.append)
    server.breaks_after = 600_000
    download(server.url, tmp_path / "file.bin", SHA256)
    assert waited == [1]


def test_without_a_hash_the_announced_length_counts(server, tmp_path):
    target = tmp_path / "file.bin"
    server.breaks_at = 300_000
    with pytest.raises(UserError, match="ended at 300000 of 1024000 bytes"):
        download(server.url, target, None)
    assert not target.exists()
    server.breaks_at = None
    assert download(server.url, target, None).read_bytes() == CONTENT
    target.unlink()
    server.announces = False
    assert download(server.url, target, None).read_bytes() == CONTENT


def test_what_is_longer_than_the_servers_is_fetched_anew(server, tmp_path):
    (tmp_path / "file.bin.part").write_bytes(CONTENT + b"?")
    assert download(server.url, tmp_path / "file.bin", None).read_bytes() == CONTENT
    assert server.asked == ["bytes=1024001-", None]


def test_a_complete_part_is_only_checked(server, tmp_path):
    (tmp_path / "file.bin.part").write_bytes(CONTENT)
    assert download(server.url, tmp_path / "file.bin", SHA256).read_bytes() == CONTENT
    assert server.asked == ["bytes=1024000-"]


def test_any_algorithm(server, tmp_path):
    digest = Digest("sha1", hashlib.sha1(CONTENT).hexdigest())
    assert download(server.url, tmp_path / "file.bin", digest).read_bytes() == CONTENT
    (tmp_path / "file.bin").unlink()
    with pytest.raises(UserError, match=f"has sha1 {digest.digits}, expected 00"):
        download(server.url, tmp_path / "file.bin", Digest("sha1", "00"))


def test_another_hash_is_refused_and_the_next_try_starts_over(server, tmp_path):
    with pytest.raises(UserError, match="expected 0000"):
        download(server.url, tmp_path / "file.bin", Digest("sha256", "0000"))
    assert list(tmp_path.iterdir()) == []


def test_a_missing_file(tmp_path):
    with pytest.raises(UserError, match="cannot be downloaded"):
        download("http://127.0.0.1:9/file.bin", tmp_path / "file.bin", SHA256)


@pytest.mark.parametrize("terminal", [False, True])
def test_shows_a_bar_on_a_terminal_only(server, tmp_path, monkeypatch, capsys, terminal):
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    if terminal:
        monkeypatch.setenv("FORCE_COLOR", "1")  # rich then takes anything for a terminal
        monkeypatch.setenv("COLUMNS", "120")
    download(server.url, tmp_path / "file.bin", SHA256)
    out, err = capsys.readouterr()
    assert out == ""
    assert ("checking file.bin" in err) if terminal else err == ""
