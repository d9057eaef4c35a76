import hashlib
import importlib.util
import os
import re
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from ppdet.utils.disk import download as download_module
from ppdet.utils.disk import steady_http
from ppdet.utils.disk.download import DownloadError, download, fetch, file_md5
from ppdet.utils.disk.redirects import ToHttpOnly
from ppdet.utils.errors import UserError


def load_file_server():
    path = Path(__file__).with_name("file_server.py")
    spec = importlib.util.spec_from_file_location("file_server", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.FileServer()


CONTENT = os.urandom(300_000)
NAME = "model.pdparams"


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(download_module, "RETRY_SECONDS", 0.01)
    monkeypatch.setattr(download_module, "CHUNK_BYTES", 16_384)
    with load_file_server().running() as running:
        running.files[NAME] = CONTENT
        yield running


def error_of(call):
    with pytest.raises(DownloadError) as caught:
        call()
    message = str(caught.value)
    assert "\n" not in message and isinstance(caught.value, UserError) and isinstance(caught.value, OSError)
    return message


def visible(folder):
    return sorted(name for name in os.listdir(folder) if not name.startswith("."))


def test_local_paths(tmp_path, monkeypatch):
    weights = tmp_path / "best_model.pdparams"
    weights.write_bytes(b"x")
    assert fetch(str(weights)) == weights
    assert fetch(tmp_path / "best_model") == weights
    monkeypatch.setenv("HOME", str(tmp_path))
    assert fetch("~/best_model") == weights
    (tmp_path / "v1.5.safetensors").write_bytes(b"x")
    assert fetch(tmp_path / "v1.5") == tmp_path / "v1.5.safetensors"
    message = error_of(lambda: fetch(tmp_path / "none"))
    assert f"{tmp_path}/none: no such file, nor with .pdparams or .safetensors appended" in message
    error_of(lambda: fetch(tmp_path))
    error_of(lambda: fetch(""))


def test_local_paths_that_are_no_files(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "fifo.pdparams")
    (tmp_path / "loop").symlink_to("loop")
    for name, message in (("fifo", "not a regular file"), (".", "not a regular file"), ("loop", "no such file")):
        assert message in error_of(lambda name=name: fetch(tmp_path / name))
    assert "~nosuchuser/x: no such file" in error_of(lambda: fetch("~nosuchuser/x"))


REFUSED_URLS = [
    "ftp://host/a.pdparams",
    "file:///etc/passwd",
    "s3://bucket/x",
    "http://host/",
    "http://[bad/x.pdparams",
]


@pytest.mark.parametrize("url", [*REFUSED_URLS, "http://host/a/%2e%2e"])
def test_other_urls_are_refused(url, tmp_path):
    assert "expected" in error_of(lambda: fetch(url, cache_dir=tmp_path))


def test_downloaded_once_then_reused(server, tmp_path):
    url = f"{server.url}/{NAME}"
    for _ in range(2):
        path = fetch(url, cache_dir=tmp_path)
        assert path == tmp_path / NAME and path.read_bytes() == CONTENT
    assert len(server.requests) == 1
    assert visible(tmp_path) == [NAME, f"{NAME}.url"]
    assert not list(tmp_path.glob(".*.part*"))


def test_cache_folder_comes_from_the_environment_or_is_paddledetections(server, tmp_path, monkeypatch):
    monkeypatch.setenv("PPDET_WEIGHTS_HOME", str(tmp_path / "a"))
    assert fetch(f"{server.url}/{NAME}") == tmp_path / "a" / NAME
    monkeypatch.delenv("PPDET_WEIGHTS_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    earlier = tmp_path / ".cache" / "paddle" / "weights" / NAME
    earlier.parent.mkdir(parents=True)
    earlier.write_bytes(b"downloaded by PaddleDetection")
    assert fetch(f"{server.url}/{NAME}") == earlier
    assert len(server.requests) == 1


def test_two_urls_with_one_file_name_are_two_files(server, tmp_path):
    server.files["other/" + NAME] = b"another model"
    first = fetch(f"{server.url}/{NAME}", cache_dir=tmp_path)
    second = fetch(f"{server.url}/other/{NAME}", cache_dir=tmp_path)
    assert (first.read_bytes(), second.read_bytes()) == (CONTENT, b"another model")
    assert second.suffix == ".pdparams"
    assert fetch(f"{server.url}/other/{NAME}", cache_dir=tmp_path) == second
    assert len(server.requests) == 2


def test_a_login_is_sent_and_nowhere_written(server, tmp_path, capsys, monkeypatch):
    sent = []
    answer = server.answer
    monkeypatch.setattr(server, "answer", lambda call: (sent.append(call.headers.get("Authorization")), answer(call)))
    host = server.url.partition("://")[2]
    url = f"http://me:pass%40word@{host}/{NAME}?sig=abcd1234"
    for path in (NAME, f"{NAME}?sig=abcd1234", f"{NAME}?sig=other", f"{NAME}?sig=third"):
        server.files[path] = CONTENT
    server.cut_after = 200_000
    path = fetch(url, cache_dir=tmp_path)
    # base64 of me:pass@word; the second part is asked for because what is recorded of the first one fits the URL
    assert sent == ["Basic bWU6cGFzc0B3b3Jk"] * 2 and server.requests[1][1] == "bytes=200000-"
    shown = f"http://***@{host}/{NAME}?***"
    assert (tmp_path / f"{NAME}.url").read_text().startswith(f"{shown} ")
    # The same again, with another password, and as config.yml has it; but not another query.
    for again in (url, url.replace("word", "phrase"), shown):
        assert fetch(again, cache_dir=tmp_path) == path
    other = fetch(f"http://{host}/{NAME}?sig=other", cache_dir=tmp_path)
    assert other != path and fetch(f"http://me:word@{host}/{NAME}?sig=other", cache_dir=tmp_path) == other
    # What config.yml has does not tell which of the two it was, unless there is one alone.
    masked_url = f"http://{host}/{NAME}?***"
    third = fetch(f"http://{host}/{NAME}?sig=third", cache_dir=tmp_path)
    message = error_of(lambda: fetch(masked_url, cache_dir=tmp_path))
    several = f", and {tmp_path} has 2 files of such URLs: give the whole URL again"
    assert message == f"{masked_url}: passwords and queries are not saved{several}"
    third.unlink()
    assert fetch(masked_url, cache_dir=tmp_path) == other
    (tmp_path / f"{NAME}.url").write_text(url)  # of an earlier version
    assert fetch(url, cache_dir=tmp_path) == path
    path.unlink()
    message = error_of(lambda: fetch(shown, cache_dir=tmp_path))
    assert message == f"{shown}: passwords and queries are not saved: give the whole URL again"
    server.status = 403
    messages = [error_of(lambda: fetch(url, cache_dir=tmp_path / "b"))]
    messages += [error_of(lambda: fetch(f"http://me:pass/word@{host}/{NAME}", cache_dir=tmp_path / "b"))]
    logged = capsys.readouterr().err
    assert logged.count(f"downloading {shown} to ") == 2
    for secret in ("word", "abcd1234"):
        assert not any(secret in text for text in (logged, *messages))


def test_a_broken_transfer_goes_on_where_it_stopped(server, tmp_path):
    server.cut_after = 100_000
    assert fetch(f"{server.url}/{NAME}", cache_dir=tmp_path).read_bytes() == CONTENT
    assert [wanted for _, wanted in server.requests] == [None, "bytes=100000-", "bytes=200000-"]


def test_a_later_call_resumes(server, tmp_path):
    server.cut_after = 20_000
    message = error_of(lambda: fetch(f"{server.url}/{NAME}", cache_dir=tmp_path))
    assert "80000 of 300000 bytes" in message and "run again to continue" in message
    assert visible(tmp_path) == []
    server.cut_after = None
    assert fetch(f"{server.url}/{NAME}", cache_dir=tmp_path).read_bytes() == CONTENT
    assert server.requests[-1] == (f"/{NAME}", "bytes=80000-")


def test_a_file_that_changed_on_the_server_starts_again(server, tmp_path):
    server.cut_after = 20_000
    error_of(lambda: fetch(f"{server.url}/{NAME}", cache_dir=tmp_path))
    server.cut_after, server.files[NAME] = None, b"new" * 50_000
    assert fetch(f"{server.url}/{NAME}", cache_dir=tmp_path).read_bytes() == b"new" * 50_000
    error_of(lambda: fetch(f"{server.url}/none", cache_dir=tmp_path))


def test_servers_without_ranges_or_etag_start_again(server, tmp_path):
    for attribute in ("ranges", "send_etag"):
        setattr(server, attribute, False)
        server.cut_after = 20_000
        folder = tmp_path / attribute
        error_of(lambda folder=folder: fetch(f"{server.url}/{NAME}", cache_dir=folder))
        server.cut_after = None
        assert fetch(f"{server.url}/{NAME}", cache_dir=folder).read_bytes() == CONTENT


def test_md5_given_or_sent_is_checked(server, tmp_path):
    good = hashlib.md5(CONTENT).hexdigest()
    server.send_md5 = True
    assert file_md5(fetch(f"{server.url}/{NAME}", cache_dir=tmp_path / "a", md5=good.upper())) == good

    message = error_of(lambda: fetch(f"{server.url}/{NAME}", cache_dir=tmp_path / "b", md5="0" * 32))
    assert good in message and "0" * 32 in message and str(tmp_path / "b" / NAME) in message
    assert visible(tmp_path / "b") == [] and not list((tmp_path / "b").glob(".*.part*"))


def test_content_md5_of_the_server_finds_damage(server, tmp_path, monkeypatch):
    server.send_md5 = True
    server.cut_after = 20_000
    error_of(lambda: fetch(f"{server.url}/{NAME}", cache_dir=tmp_path))
    (part,) = tmp_path.glob(".*.part")
    part.write_bytes(b"\0" * part.stat().st_size)
    server.cut_after = None
    assert "MD5" in error_of(lambda: fetch(f"{server.url}/{NAME}", cache_dir=tmp_path))
    assert fetch(f"{server.url}/{NAME}", cache_dir=tmp_path).read_bytes() == CONTENT


def test_a_damaged_file_is_downloaded_again_when_the_md5_is_known(server, tmp_path):
    (tmp_path / NAME).write_bytes(b"damaged")
    assert download(f"{server.url}/{NAME}", tmp_path / NAME, md5=hashlib.md5(CONTENT).hexdigest()) is True
    assert (tmp_path / NAME).read_bytes() == CONTENT
    assert download(f"{server.url}/{NAME}", tmp_path / NAME, md5=hashlib.md5(CONTENT).hexdigest()) is False


def test_errors_say_which_file_to_put_where(server, tmp_path):
    target = str(tmp_path / NAME)
    server.status = 404
    message = error_of(lambda: fetch(f"{server.url}/{NAME}", cache_dir=tmp_path, hint=", or do without"))
    assert "404" in message and target in message and message.endswith(", or do without")
    assert len(server.requests) == 1, "no second attempt at a file that is not there"

    server.status = 503
    message = error_of(lambda: fetch(f"{server.url}/{NAME}", cache_dir=tmp_path))
    assert "503" in message and target in message

    message = error_of(lambda: fetch(f"http://127.0.0.1:9/{NAME}", cache_dir=tmp_path))
    assert "refused" in message and target in message


def test_names_that_no_file_can_have(server, tmp_path):
    server.files["a%00b%0a.pdparams"] = b"x"
    assert fetch(f"{server.url}/a%00b%0a.pdparams", cache_dir=tmp_path) == tmp_path / "a_b_.pdparams"


def test_only_redirects_to_web_servers_are_followed(server, tmp_path):
    server.redirects = {"1.pdparams": f"{server.url}/{NAME}"}
    assert fetch(f"{server.url}/1.pdparams", cache_dir=tmp_path).read_bytes() == CONTENT
    for number, place in enumerate(("file:///etc/passwd", "ftp://127.0.0.1:1/x", "data:,x", "gopher://x/")):
        server.redirects = {f"{number}.bin": place}
        message = error_of(lambda number=number: fetch(f"{server.url}/{number}.bin", cache_dir=tmp_path))
        assert "redirect" in message.lower() and place in message
    secure = urllib.request.Request("https://127.0.0.1/x")
    with pytest.raises(urllib.error.URLError, match="it redirects to http://"):
        ToHttpOnly().redirect_request(secure, None, 302, "Found", {}, "http://127.0.0.1/x")
    assert not list(tmp_path.glob("*.bin*"))


@pytest.mark.parametrize("says_length", [True, False])
def test_a_file_that_is_too_large(server, tmp_path, says_length):
    server.says_length = says_length
    target = tmp_path / NAME
    message = error_of(lambda: download(f"{server.url}/{NAME}", target, largest=200_000))
    assert "larger than the 200,000 bytes" in message
    assert visible(tmp_path) == [] and not list(tmp_path.glob(".*.part"))
    assert download(f"{server.url}/{NAME}", target, largest=300_000)


@pytest.mark.parametrize("part", ["head", "body"])
def test_a_server_that_sends_a_byte_at_a_time(server, tmp_path, monkeypatch, part):
    """Each byte comes in time for the socket, and the file would never end."""
    monkeypatch.setattr(steady_http, "WINDOW_SECONDS", 0.05)
    server.drips = part
    message = error_of(lambda: fetch(f"{server.url}/{NAME}", cache_dir=tmp_path))
    assert re.search(r"only \d+ bytes arrived in \d+ seconds\) \(4 attempts\): run again", message)


def test_folder_that_cannot_be_made(server, tmp_path):
    (tmp_path / "file").write_text("")
    message = error_of(lambda: fetch(f"{server.url}/{NAME}", cache_dir=tmp_path / "file"))
    assert "cannot be written" in message


def test_processes_share_one_download(server, tmp_path):
    server.gate = threading.Event()
    code = f"from ppdet.utils.disk.download import fetch; print(fetch({server.url + '/' + NAME!r}))"
    environment = {**os.environ, "PPDET_WEIGHTS_HOME": str(tmp_path)}
    command = [sys.executable, "-c", code]
    processes = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    threading.Timer(1.0, server.gate.set).start()
    for process in processes:
        out, err = process.communicate()
        assert out.strip() == str(tmp_path / NAME), err
    assert (tmp_path / NAME).read_bytes() == CONTENT
    assert len(server.requests) == 1
