"""The page in a real browser, with a real model behind it."""

import re
import shutil

import pytest
from patience import PATIENCE
from serving import form

from ppdet.visualize.draw import class_color, text_color

playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: pip install playwright")
CHROMIUM = next((path for path in map(shutil.which, ("chromium", "chromium-browser", "google-chrome")) if path), None)
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--use-fake-device-for-media-stream",
    "--use-fake-ui-for-media-stream",
]
# What lies on the canvas of the boxes: pixels that are not transparent.
PAINTED = """() => {
  const canvas = document.getElementById("boxes");
  const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  return data.filter((value, index) => index % 4 === 3 && value > 0).length;
}"""
SET = """(slider, value) => { slider.value = value; slider.dispatchEvent(new Event("input", { bubbles: true })); }"""


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("no Chromium here (chromium, chromium-browser or google-chrome on PATH)")
    with playwright.sync_playwright() as engine:
        browser = engine.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def page(browser, token_server):
    """The page, with the token given; afterwards, nothing may have gone wrong in it."""
    context = browser.new_context(viewport={"width": 1200, "height": 800})
    context.set_default_timeout(1000 * PATIENCE)
    page = context.new_page()
    page.problems, page.requests = [], []
    page.on("pageerror", lambda error: page.problems.append(str(error)))
    page.on("console", lambda line: page.problems.append(line.text) if "Content Security" in line.text else None)
    page.on("request", lambda request: page.requests.append(request.url))
    page.goto(token_server.url)
    yield page
    assert page.problems == []
    assert all(url.startswith((token_server.url, "data:", "blob:")) for url in page.requests), page.requests
    context.close()


def upload(page, content, name="a.png"):
    page.set_input_files("#file", {"name": name, "mimeType": "image/png", "buffer": content})


def give_token(page, token="open-sesame"):
    page.wait_for_selector("#login", state="visible")
    page.get_by_label("This server needs a token").fill(token)
    page.get_by_role("button", name="Go on").click()


def until(page, expression):
    """Wait until a JavaScript expression is true (Playwright's own waiting evaluates text, which the page forbids)."""
    while not page.evaluate(f"() => {expression}"):
        page.wait_for_timeout(50)


def predictions(page):
    return sum(url.endswith("/predict") for url in page.requests)


def shown(page):
    return int(page.get_attribute("#boxes", "data-count"))


def test_upload_slider_and_classes(page, token_server, images):
    upload(page, images[0])
    assert page.wait_for_selector("#message", state="visible").text_content().startswith("This server needs a token")
    give_token(page, "wrong")
    give_token(page)
    page.wait_for_selector("#frame", state="visible")
    assert page.is_hidden("#message") and page.is_hidden("#login") and page.is_hidden("#drop")
    body, headers = form(images[0], threshold="0.05")
    _, content = token_server.request("POST", "/predict", body, {**headers, "Authorization": "Bearer open-sesame"})
    scores = [float(score) for score in re.findall(rb'"score":([\d.]+)', content)]
    asked = predictions(page)
    assert asked == 3  # without a token, with a wrong one, with the right one

    # The slider shows other boxes at once, without another request.
    counts, painted = [], []
    ranked = sorted(scores)
    for least in (0.05, ranked[len(ranked) // 2] + 0.005, ranked[-2] - 0.005, 1.0):
        least = round(least, 2)
        page.eval_on_selector("#threshold", SET, least)
        assert shown(page) == sum(score >= least for score in scores)
        assert page.text_content("#least") == f"{least:.2f}"
        counts.append(shown(page))
        painted.append(page.evaluate(PAINTED))
    assert counts[0] > counts[1] > counts[2] > counts[3] == 0, counts
    assert painted[0] > painted[1] > painted[2] > painted[3] == 0, painted
    assert page.text_content("#summary") == f"0 of {len(scores)} detections at a score of 1 or more"

    # Classes are switched off and on, with their counts.
    page.eval_on_selector("#threshold", SET, 0.05)
    toggles = {name: page.get_by_role("checkbox", name=name) for name in ("blue", "red")}
    labels = {name: int(page.text_content(f'.count[data-name="{name}"]')) for name in toggles}
    assert sum(labels.values()) == counts[0] and min(labels.values()) > 0
    toggles["red"].uncheck()
    summary = f"{labels['blue']} of {len(scores)} detections at a score of 0.05 or more"
    assert page.text_content("#summary") == f"{summary}; {labels['red']} more in classes that are switched off"
    assert shown(page) == labels["blue"] and page.evaluate(PAINTED) < painted[0]
    toggles["blue"].uncheck()
    assert shown(page) == 0 and page.evaluate(PAINTED) == 0
    toggles["red"].check()
    assert shown(page) == labels["red"]
    assert predictions(page) == asked
    assert re.search(r"Model\s*[\d.]+ ms", page.text_content("#timing"))


def test_boxes_are_where_they_should_be(page, images, served):
    """The canvas of the boxes has color on the edges of the best box, and lies on the image exactly."""
    from ppdet.deploy import Detector

    upload(page, images[0])
    give_token(page)
    page.wait_for_selector("#frame", state="visible")
    found = Detector(served).predict(images[0])
    best = found.scores.argmax()
    page.eval_on_selector("#threshold", SET, float(found.scores[best]) - 0.004)
    x1, _, x2, y2 = found.boxes[best]
    read = "([x, y]) => [...document.getElementById('boxes').getContext('2d').getImageData(x, y, 1, 1).data]"
    width, height = page.eval_on_selector("#boxes", "e => [e.width, e.height]")
    middle = [float(x1 + x2) / 2 * width / 101, min(float(y2) * height / 77, height - 1)]
    alpha = [page.evaluate(read, [middle[0], middle[1] + offset])[3] for offset in (-1, 0)]
    assert max(alpha) > 100
    places = [page.eval_on_selector(f"#{name}", "e => JSON.stringify(e.getBoundingClientRect())") for name in
              ("boxes", "picture")]  # fmt: skip
    assert places[0] == places[1]


def test_a_broken_file_is_explained_and_the_page_goes_on(page, images, served):
    from ppdet.deploy import Detector

    upload(page, b"this is no image")
    give_token(page)
    message = page.wait_for_selector("#message", state="visible")
    until(page, "document.getElementById('message').textContent.startsWith('Not an image')")
    assert "expected one of JPEG, PNG" in message.text_content()
    upload(page, images[3])
    page.wait_for_selector("#frame", state="visible")
    assert page.is_hidden("#message")
    page.eval_on_selector("#threshold", SET, 0.05)
    assert shown(page) == len(Detector(served).predict(images[3]).above(0.05)) > 0
    assert page.eval_on_selector("#picture", "e => [e.width, e.height]") == [50, 77]


def test_drop_and_paste(page, images):
    give = """([kind, bytes]) => {
      const data = new DataTransfer();
      data.items.add(new File([new Uint8Array(bytes)], "a.png", { type: "image/png" }));
      const event = kind === "drop" ? new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true })
        : new ClipboardEvent("paste", { clipboardData: data, bubbles: true });
      document.body.dispatchEvent(event);
    }"""
    page.evaluate(give, ["drop", list(images[0])])
    give_token(page)
    until(page, "document.getElementById('picture').width === 101")
    page.evaluate(give, ["paste", list(images[3])])
    until(page, "document.getElementById('picture').width === 50")


def test_camera_frame_by_frame(page, images):
    page.get_by_role("button", name="Start camera").click()
    give_token(page)
    until(page, "document.getElementById('timing').textContent.includes('Round trip')")
    before = predictions(page)
    until(page, "document.getElementById('camera').textContent === 'Stop camera'")
    while predictions(page) < before + 3:
        page.wait_for_timeout(50)
    page.get_by_role("button", name="Stop camera").click()
    assert page.eval_on_selector("#camera", "e => e.getAttribute('aria-pressed')") == "false"
    assert page.evaluate("document.getElementById('video').srcObject") is None
    # The frame that was being taken may still be sent; after it, nothing but the image that is asked for is.
    stopped = predictions(page)
    for number, width in enumerate((101, 50, 101)):
        upload(page, images[{101: 0, 50: 3}[width]])
        until(page, f"document.getElementById('picture').width === {width}")
        assert number + 1 <= predictions(page) - stopped <= number + 2


def test_everything_has_a_label(page):
    """Every control has a name for those who do not see it."""
    names = page.eval_on_selector_all(
        "input, button",
        "all => all.map((e) => [e.id, ([...e.labels].map((l) => l.textContent).join() || e.textContent).trim()])",
    )
    assert names and all(name for _, name in names), names


LONG = "a class name that says in many words what was seen, more than anybody would like to read on a small screen"
CORNERS = {
    "left": [0, 0, 0.2, 0.2],
    "right": [0.9, -0.1, 1.0, 0.2],
    "below": [0, 0.9, 0.1, 1.1],
    "corner": [0.97, 0.97, 1.0, 1.0],
    "all": [0, 0, 1, 1],
    LONG: [0.5, 0.4, 0.7, 0.6],
    "\u5bb6\U0001f600" * 60: [0.3, 0.7, 0.35, 0.75],
    "": [0.6, 0.1, 0.7, 0.3],
}
# Shows an answer with these boxes, and notes what is painted on the canvas of the boxes, in its pixels.
PAINT = """([width, height, boxes]) => {
  const picture = document.createElement("canvas");
  [picture.width, picture.height] = [width, height];
  const detections = Object.entries(boxes).map(([name, box], index) => ({
    class: index, name, category_id: index, score: 0.9 - index / 100,
    box: [box[0] * width, box[1] * height, box[2] * width, box[3] * height] }));
  const noted = { boxes: [], labels: [], texts: [] };
  const own = CanvasRenderingContext2D.prototype;
  const { strokeRect, fillRect, fillText } = own;
  own.strokeRect = function (x, y, w, h) { noted.boxes.push([x, y, w, h, this.lineWidth]); };
  own.fillRect = function (x, y, w, h) { noted.labels.push([x, y, w, h]); };
  own.fillText = function (text, x) { noted.texts.push([text, x, this.measureText(text).width]); };
  const timing_ms = { prepare: 1, queue: 1, inference: 1, total: 3 };
  show(picture, { image: { width, height }, detections, batch_size: 1, timing_ms, roundTrip: 5 });
  Object.assign(own, { strokeRect, fillRect, fillText });
  const frame = document.getElementById("frame").getBoundingClientRect();
  const canvas = document.getElementById("boxes");
  return { ...noted, frame: [frame.width, frame.height], canvas: [canvas.width, canvas.height],
    overflow: document.documentElement.scrollWidth - window.innerWidth };
}"""


def test_boxes_and_labels_lie_in_the_picture_on_every_screen(page):
    """With boxes at all edges, long names, small, large, thin images; and small images are shown enlarged."""
    for width, height in ((390, 844), (1280, 900)):
        page.set_viewport_size({"width": width, "height": height})
        for size in ((100, 80), (4000, 3000), (40, 300), (1, 1)):
            found = page.evaluate(PAINT, [*size, CORNERS])
            case = (width, size)
            assert found["overflow"] <= 0, case
            shown_width, shown_height = found["frame"]
            assert shown_width / shown_height == pytest.approx(size[0] / size[1], rel=0.02), case
            # As wide as the place, or as high as most of the window.
            assert shown_height == pytest.approx(0.8 * height, abs=2) or shown_width > (300 if width == 390 else 800)
            right, bottom = found["canvas"]
            assert (right, bottom) == pytest.approx((shown_width, shown_height), abs=1), case
            assert len(found["boxes"]) == len(found["labels"]) == len(found["texts"]) == len(CORNERS)
            for x, y, w, h, line in found["boxes"]:
                assert x >= line / 2 and y >= line / 2 and w >= 0 and h >= 0, case
                assert x + w <= right - line / 2 + 1e-6 and y + h <= bottom - line / 2 + 1e-6, case
            for (x, y, w, h), (text, start, length) in zip(found["labels"], found["texts"]):
                assert x >= 0 and y >= 0 and x + w <= right + 1e-6 and y + h <= bottom + 1e-6, case
                assert x < start and start + length < x + w and re.search(r"0\.\d\d$", text), (case, text)
            texts = [text for text, *_ in found["texts"]]
            assert not any(LONG in text for text in texts)
            assert any(text.startswith("a class name") and "\u2026 0.8" in text for text in texts) or size == (40, 300)


def test_no_label_claims_a_score_that_the_slider_denies(page):
    """0.49790 was labeled 0.50 at a slider of 0.49, and hidden at 0.50."""
    texts = page.evaluate("() => [...Array(100001).keys()].map((score) => labelOf({ name: 'a', score: score / 1e5 }))")
    assert texts == [f"a {score // 1000 // 100}.{score // 1000 % 100:02}" for score in range(100001)]


def test_labels_can_be_read_on_every_color(page):
    """The page has the server's colors, and its black or white text has the contrast of WCAG's level AA."""
    grounds, texts = page.evaluate(
        "() => { const all = [...Array(400).keys()].map(color); return [all, all.map(ink)]; }"
    )
    assert [tuple(ground) for ground in grounds] == [class_color(index) for index in range(400)]
    assert [tuple(text) for text in texts] == [text_color(tuple(ground)) for ground in grounds]
    assert min(contrast(ground, text) for ground, text in zip(grounds, texts)) >= 4.5


def test_text_can_be_read_in_both_color_schemes(page):
    pairs = [("ink", "ground"), ("ink", "card"), ("soft", "ground"), ("soft", "card"), ("on-accent", "accent"),
             ("error", "error-ground"), ("accent", "card"), ("accent", "ground")]  # fmt: skip
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        read = "name => getComputedStyle(document.documentElement).getPropertyValue('--' + name).trim()"
        for names in pairs:
            colors = [page.evaluate(read, name).lstrip("#") for name in names]
            full = [text if len(text) == 6 else "".join(letter + letter for letter in text) for text in colors]
            assert contrast(*(bytes.fromhex(text) for text in full)) >= 4.5, (scheme, names)


def contrast(one, other):
    """The ratio of WCAG 2.2, from 1 to 21."""
    dark, light = sorted(
        sum(
            weight * (value / 255 / 12.92 if value / 255 <= 0.04045 else ((value / 255 + 0.055) / 1.055) ** 2.4)
            for weight, value in zip((0.2126, 0.7152, 0.0722), color)
        )
        for color in (one, other)
    )
    return (light + 0.05) / (dark + 0.05)


def test_the_page_of_the_paths(page, token_server):
    """The fixture checks that the Content-Security-Policy let everything through, and that nothing came from afar."""
    for width in (390, 1280):
        page.set_viewport_size({"width": width, "height": 900})
        page.goto(f"{token_server.url}docs")
        assert page.evaluate("() => document.documentElement.scrollWidth <= window.innerWidth")
    assert page.get_by_role("heading", name="POST /predict token").is_visible()
    assert page.eval_on_selector(".card", "e => getComputedStyle(e).borderRadius") == "12px"  # page.css was loaded
    page.get_by_role("link", name="Prediction").first.click()
    assert page.url.endswith("docs#Prediction")
