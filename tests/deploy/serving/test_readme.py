"""The commands and the client of deploy/serving/README.md, as the page has them, with a running server."""

import io
import json
import os
import re
import shutil
import subprocess
import sys

import pytest
from patience import PATIENCE
from PIL import Image
from serving import ROOT

from ppdet.deploy import Detector

PAGE = (ROOT / "deploy/serving/README.md").read_text(encoding="utf-8")
TOKEN = "open-sesame"


@pytest.fixture
def image(tmp_path, images):
    """A JPEG file, which is what the page sends."""
    path = tmp_path / "image.jpg"
    Image.open(io.BytesIO(images[0])).save(path)
    return path


def blocks(language, server):
    """Blocks of code of the page, with the address of this server."""
    found = re.findall(rf"^```{language}\n(.+?)^```", PAGE, re.MULTILINE | re.DOTALL)
    return [block.replace("http://127.0.0.1:8080/", server.url) for block in found]


def test_the_client_in_python(token_server, served, image):
    [client] = blocks("python", token_server)
    assert len([line for line in client.splitlines() if line]) <= 10
    environment = {**os.environ, "PPDET_TOKEN": TOKEN}
    command = [sys.executable, "-c", client, str(image)]
    result = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=PATIENCE)
    assert result.returncode == 0, result.stderr
    expected = Detector(served).predict(str(image)).above(0.4)
    rows = [line.split(" ", 2) for line in result.stdout.splitlines()]
    assert sorted(name for name, *_ in rows) == sorted(expected.names) and len(rows) > 3
    assert [float(score) for _, score, _ in rows] == pytest.approx(sorted(expected.scores, reverse=True), abs=1e-5)
    assert all(len(json.loads(box)) == 4 for *_, box in rows)


@pytest.mark.skipif(not all(map(shutil.which, ("curl", "bash", "base64"))), reason="no curl, bash or base64 here")
def test_the_lines_with_curl(token_server, image):
    # Options that curl itself reads give the token, and end with the code 22 after an error's status.
    (image.parent / ".curlrc").write_text(f'header = "Authorization: Bearer {TOKEN}"\nfail\nsilent\nshow-error\n')
    (image.parent / "token").write_text(TOKEN)
    [block] = [block for block in blocks("bash", token_server) if "base64" in block]
    [with_token] = re.findall(r"^curl .+cat token.+", "\n".join(blocks("bash", token_server)), re.MULTILINE)
    script = re.sub(r"^IMAGE=.*", f"IMAGE={image.name}", block.strip(), flags=re.MULTILINE)
    # A line of its own between the answers.
    script = re.sub(r"^(?!IMAGE=|  )", "echo; echo ----; ", script, flags=re.MULTILINE) + "\necho; echo ----"
    environment = {**os.environ, "CURL_HOME": str(image.parent)}

    def bash(text):
        command = ["bash", "-euo", "pipefail", "-c", text]
        return subprocess.run(
            command, cwd=image.parent, capture_output=True, text=True, env=environment, timeout=PATIENCE
        )

    result = bash(script)
    assert result.returncode == 0, result.stderr
    _, usual, low, picture, raw, base64, model, head, _ = result.stdout.split("\n----\n")
    usual, low, raw, base64, model = map(json.loads, (usual, low, raw, base64, model))
    assert low["detections"] == raw["detections"] == base64["detections"]
    assert len(low["detections"]) > len(usual["detections"]) > 0
    assert picture == "" and Image.open(image.parent / "found.jpg").format == "JPEG"
    assert [one["name"] for one in model["classes"]] == ["red", "blue"]
    assert head.startswith("HTTP/1.1 200 OK") and "{" not in head
    (image.parent / ".curlrc").write_text("fail\nsilent\n")
    result = bash(f"IMAGE={image.name}; {with_token}")
    assert json.loads(result.stdout)["detections"] == usual["detections"]
    assert bash(with_token.replace("cat token", "echo wrong")).returncode != 0


def test_head_sends_no_body(token_server):
    """The next answer of the same connection begins where the head ended."""
    connection = token_server.connect()
    for path in ("/", "/page.js", "/docs", "/openapi.json", "/healthz", "/readyz", "/model", "/metrics", "/nowhere"):
        answers = []
        for method in ("HEAD", "GET"):
            connection.request(method, path, headers={"Authorization": f"Bearer {TOKEN}"})
            response = connection.getresponse()
            answers.append((response.status, int(response.headers["content-length"]), response.read()))
        (status, length, body), (same, _, content) = answers
        assert status == same and body == b"" and len(content) > 0
        assert path == "/metrics" or length == len(content)
    connection.close()
