"""The page of ONNX Runtime Web in a browser: it finds what ONNX Runtime finds in Python.

It needs `npm ci` in deploy/web (or PPDET_NODE_MODULES), and Chromium; its resizing needs only Node.js.
"""

import functools
import http.server
import json
import os
import re
import shutil
import subprocess
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from patience import PATIENCE
from toy_onnx import OPERATIONS, write_model

from ppdet.deploy.detector import Detector

ROOT = Path(__file__).resolve().parents[2]
WEB = ROOT / "deploy" / "web"


@pytest.fixture(scope="module")
def modules():
    folder = Path(os.environ.get("PPDET_NODE_MODULES", WEB / "node_modules"))
    if not (folder / "onnxruntime-web").is_dir():
        pytest.skip("onnxruntime-web is not installed: npm ci --prefix deploy/web")
    return folder


@pytest.fixture(scope="module")
def browser():
    playwright = pytest.importorskip("playwright.sync_api")
    path = shutil.which("chromium") or shutil.which("google-chrome")
    with playwright.sync_playwright() as driver:
        try:
            browser = driver.chromium.launch(executable_path=path, args=["--no-sandbox"])
        except playwright.Error as error:
            pytest.skip(f"no Chromium: {error}")
        yield browser
        browser.close()


@pytest.fixture
def site(tmp_path, modules):
    """Address of the page, served from a folder with the model `model` in it."""
    pytest.importorskip("onnxruntime")
    (tmp_path / "model").mkdir()
    write_model(tmp_path / "model")
    (tmp_path / "index.html").symlink_to(WEB / "index.html")
    (tmp_path / "node_modules").symlink_to(modules)
    (tmp_path / "ppdet").symlink_to(ROOT / "ppdet")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


def test_resizing_is_that_of_opencv_to_the_bit():
    if not shutil.which("node"):
        pytest.skip("there is no node")
    rng = np.random.default_rng(0)
    sizes = [(77, 101, 58, 76), (31, 2, 90, 7), (40, 60, 95, 131), (1, 1, 5, 3), (50, 80, 1, 1), (64, 64, 32, 100)]
    images = [rng.integers(0, 256, (h, w, 3), dtype=np.uint8) for h, w, *_ in sizes]
    cases = [[image.ravel().tolist(), *size] for image, size in zip(images, sizes)]
    function = re.search(r"^function resize\(.+?^}", (WEB / "index.html").read_text(), re.MULTILINE | re.DOTALL)[0]
    code = f"""{function}
    const run = ([data, height, width, h, w]) => Array.from(resize({{ data, height, width }}, h, w).data);
    console.log(JSON.stringify(JSON.parse(require("node:fs").readFileSync(0)).map(run)));"""
    result = subprocess.run(["node", "-e", code], input=json.dumps(cases), capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    for image, (*_, h, w), found in zip(images, sizes, json.loads(result.stdout), strict=True):
        assert np.array_equal(np.reshape(found, (h, w, 3)), cv2.resize(image, (w, h), interpolation=cv2.INTER_LINEAR))


def test_page_finds_what_python_finds(site, browser, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    image = cv2.resize(noise, (190, 120), interpolation=cv2.INTER_CUBIC)
    cv2.imwrite(str(tmp_path / "image.png"), image)
    settings = yaml.safe_load((tmp_path / "model" / "infer_cfg.yml").read_text())
    settings.update(draw_threshold=0.95, class_thresholds={"<b>b": 0.105})
    (tmp_path / "model" / "infer_cfg.yml").write_text(yaml.safe_dump(settings))
    found = Detector(tmp_path / "model", "onnxruntime", threads=1).predict(str(tmp_path / "image.png"))
    page = browser.new_page()
    page.set_default_timeout(1000 * PATIENCE)
    page.goto(site)
    page.wait_for_selector("#file:enabled")
    facts = ["Name", "model", "Architecture", "FCOS", "Engine", "ONNX Runtime Web"]
    assert page.locator("#facts").inner_text().split("\n") == [*facts, "Thresholds", "0.105 to 0.95, by\u00a0class"]
    assert page.locator("#names-first").inner_text() == "2 classes: <b>a, <b>b"
    page.set_input_files("#file", str(tmp_path / "image.png"))
    page.wait_for_function("document.getElementById('status').textContent.includes('detected in')")
    assert page.locator("#summary").inner_text() == "1 shown of the 1 detection that the model gives"
    assert page.locator("#value").inner_text() == "by class"
    page.locator("#threshold").fill("0.1")
    page.set_input_files("#file", str(tmp_path / "image.png"))
    page.wait_for_function("document.getElementById('status').textContent.includes('detected in')")
    name, score, *box = page.locator("#list").inner_text().split()
    assert name == "<b>b" and float(score) == pytest.approx(found.scores[0], abs=1e-3)
    assert [float(side) for side in box] == pytest.approx(found.boxes[0].tolist(), abs=0.01)
    assert page.evaluate("[canvas.width, canvas.height]") == [190, 120]
    for width, shown in ((390, 300), (1280, 800)):  # a small image is enlarged, and nothing is wider than the screen
        page.set_viewport_size({"width": width, "height": 900})
        page.wait_for_function("Math.abs(boxes.width - boxes.clientWidth) <= 1")
        assert page.evaluate("boxes.clientWidth") > shown and page.evaluate("document.body.scrollWidth") <= width
        painted = "boxes.getContext('2d').getImageData(0, 0, boxes.width, boxes.height).data.some((value) => value)"
        assert page.evaluate(painted)
    assert page.locator("#value").inner_text() == "0.10"
    assert page.locator("#summary").inner_text() == "1 shown of the 1 detection that the model gives"
    page.locator("#threshold").fill("0.99")
    assert page.locator("#list").text_content() == ""
    assert page.locator("#summary").inner_text() == "0 shown of the 1 detection that the model gives"
    broken = {"name": "broken.png", "mimeType": "image/png", "buffer": b"no image"}
    page.set_input_files("#file", files=[broken])
    page.wait_for_selector("#status.message")
    assert page.locator("#frame").is_hidden() and page.locator("#summary").inner_text() == "No image yet"
    page.close()


def test_a_folder_in_int8_has_a_file_of_its_own(site, browser, tmp_path):
    settings = yaml.safe_load((tmp_path / "model" / "infer_cfg.yml").read_text())
    (tmp_path / "model" / "infer_cfg.yml").write_text(yaml.safe_dump({**settings, "precision": "int8"}))
    (tmp_path / "model" / "model.onnx").rename(tmp_path / "model" / "model_int8.onnx")
    page = browser.new_page()
    page.set_default_timeout(1000 * PATIENCE)
    page.goto(site)
    page.wait_for_selector("#file:enabled")
    page.close()


def test_a_graph_of_one_size(site, browser, tmp_path):
    """Images are padded to it, and too large ones are told."""
    write_model(tmp_path / "model", (64, 128))
    settings = yaml.safe_load((tmp_path / "model" / "infer_cfg.yml").read_text())
    settings.update(use_dynamic_shape=False, image_shape=[3, 64, 128], Preprocess=OPERATIONS[1:3])
    (tmp_path / "model" / "infer_cfg.yml").write_text(yaml.safe_dump(settings))
    page = browser.new_page()
    page.goto(site)
    for height, width, said in (
        (40, 128, "detected in"),
        (64, 70, "detected in"),
        (65, 70, "65x70 after resizing, but the graph takes 64x128 at most"),
        (40, 129, "40x129 after resizing, but the graph takes 64x128 at most"),
    ):
        page.wait_for_selector("#file:enabled")
        cv2.imwrite(str(tmp_path / f"{height}.png"), np.full((height, width, 3), 200, np.uint8))
        page.set_input_files("#file", str(tmp_path / f"{height}.png"))
        page.wait_for_function(f"document.getElementById('status').textContent.includes('{said}')")
    page.close()


def test_page_says_that_there_is_no_model(site, browser):
    page = browser.new_page()
    page.set_default_timeout(1000 * PATIENCE)
    page.goto(f"{site}?model=nowhere")
    page.wait_for_selector("#status.message")
    assert "nowhere/infer_cfg.yml: 404" in page.locator("#status").inner_text()
    page.close()


def test_page_says_that_it_is_served_from_another_folder(site, browser, tmp_path):
    """`drawBoxes is not defined` was said after the first detection, and only then."""
    (tmp_path / "ppdet").unlink()
    page = browser.new_page()
    page.set_default_timeout(1000 * PATIENCE)
    page.goto(site)
    page.wait_for_selector("#status.message")
    assert "boxes.js was not found: serve the repository's root" in page.locator("#status").inner_text()
    page.close()


def test_npm_installs_the_versions_that_were_tried():
    """package-lock.json belongs to package.json, so that `npm ci` takes it, and names no other registry."""
    names = json.loads((WEB / "package.json").read_text())["dependencies"]
    lock = json.loads((WEB / "package-lock.json").read_text())["packages"]
    assert lock.pop("")["dependencies"] == names and {f"node_modules/{name}" for name in names} <= lock.keys()
    for place, package in lock.items():
        assert package["integrity"].startswith("sha512-"), place
        assert "resolved" not in package, place  # so that npm takes the registry of the user's own settings
