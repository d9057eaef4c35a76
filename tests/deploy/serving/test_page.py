"""The page in a real browser, with a real model behind it."""

import json
import re

from serving import form

# What lies on the canvas of the boxes: pixels that are not transparent.
PAINTED = """() => {
  const canvas = document.getElementById("boxes");
  const data = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data;
  return data.filter((value, index) => index % 4 === 3 && value > 0).length;
}"""
SET = """(slider, value) => { slider.value = value; slider.dispatchEvent(new Event("input", { bubbles: true })); }"""


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
    assert asked == 1  # the page knows the model before it sends an image, and had no right token for that before

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
    assert page.text_content("#summary") == f"0 shown of {len(scores)} detections with a score of 0.05 or more"

    # Classes are switched off and on, with their counts.
    page.eval_on_selector("#threshold", SET, 0.05)
    toggles = {name: page.get_by_role("checkbox", name=name) for name in ("blue", "red")}
    labels = {name: int(page.text_content(f'.count[data-name="{name}"]')) for name in toggles}
    assert sum(labels.values()) == counts[0] and min(labels.values()) > 0
    toggles["red"].uncheck()
    summary = f"{labels['blue']} shown of {len(scores)} detections with a score of 0.05 or more"
    assert page.text_content("#summary") == f"{summary}; {labels['red']} more in classes that are switched off"
    assert shown(page) == labels["blue"] and page.evaluate(PAINTED) < painted[0]
    toggles["blue"].uncheck()
    assert shown(page) == 0 and page.evaluate(PAINTED) == 0
    toggles["red"].check()
    assert shown(page) == labels["red"]
    assert predictions(page) == asked
    assert re.search(r"Model\s*[\d.]+ ms", page.text_content("#timing"))


def test_the_page_says_what_the_model_is_and_goes_by_its_thresholds(page, token_server, images):
    """A server with a token asks for it when the page opens. One number for all classes can be chosen instead."""
    _, content = token_server.request("GET", "/model", None, {"Authorization": "Bearer open-sesame"})
    told = json.loads(content)
    assert page.is_hidden("#about") and page.is_hidden("#own-row")
    give_token(page)
    page.wait_for_selector("#about", state="visible")
    assert page.title() == "Object detection: export"
    sizes = [told["input_size"][kind] for kind in ("usual", "largest")]
    usual, largest = (f"{size['width']}\u00a0x\u00a0{size['height']}" for size in sizes)
    assert page.locator("#facts").inner_text().split("\n") == [
        *("Name", "export", "Architecture", told["architecture"]),
        *("Engine", f"{told['engine']}, cpu, fp32", "Input size", f"{usual}, up to {largest}"),
        *("Exported by", f"ppdet\u00a0{told['versions']['ppdet']}, paddle\u00a0{told['versions']['paddle']}"),
        *("Thresholds", "0.50"),
    ]
    assert page.text_content("#names-first") == "2 classes: red, blue"
    assert page.is_checked("#own") and page.text_content("#least") == "0.50" and page.input_value("#threshold") == "0.5"

    # A model with thresholds by class, lower ones than are usually asked for, and hostile names.
    names = ["<b>red", "blue", *(f"class {i} {'x' * 100}" for i in range(78))]
    limits = [0.43215, 0.03, *[0.5] * 78]
    classes = [{"class": i, "name": name, "threshold": limits[i]} for i, name in enumerate(names)]
    page.evaluate("described => introduceModel(described)", {**told, "name": "x" * 300, "classes": classes})
    upload(page, images[0])
    page.wait_for_selector("#frame", state="visible")
    body, headers = form(images[0], threshold="0.03")
    _, content = token_server.request("POST", "/predict", body, {**headers, "Authorization": "Bearer open-sesame"})
    every = json.loads(content)["detections"]
    kept = [one for one in every if one["score"] >= limits[one["class"]]]
    assert 0 < len(kept) < len(every) and shown(page) == len(kept) and page.text_content("#least") == "by class"
    assert page.text_content("#summary") == f"{len(kept)} shown of {len(every)} detections with a score of 0.03 or more"
    short = f"class 0 {'x' * 21}\u2026"
    assert page.text_content("#names-first").startswith(f"80 classes: <b>red, blue, {short}, class 1")
    page.click("#names-first")
    lines = page.locator("#names-all li").all_inner_texts()
    assert lines[:2] == ["<b>red from 0.43215", "blue from 0.03"] and len(lines) == 80
    for width in (390, 1280):
        page.set_viewport_size({"width": width, "height": 844})
        assert page.evaluate("() => document.documentElement.scrollWidth <= window.innerWidth"), width
    # One number for all, and back.
    page.eval_on_selector("#threshold", SET, 0.4)
    assert not page.is_checked("#own") and page.text_content("#least") == "0.40"
    assert shown(page) == sum(one["score"] >= 0.4 for one in every) != len(kept)
    page.get_by_label("The model's own for each class").check()
    assert shown(page) == len(kept) and predictions(page) == 1


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
    # The picture and the boxes of the image before do not stay beside a message.
    upload(page, b"this is no image")
    page.wait_for_selector("#message", state="visible")
    page.wait_for_selector("#drop", state="visible")
    assert page.is_hidden("#frame") and page.is_hidden("#unlabeled")
    assert page.text_content("#summary") == "No image yet" and page.query_selector("#classes .count") is None


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
