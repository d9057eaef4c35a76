"""Images: the bytes of every format, through what training, evaluation, batch jobs and the server do with them."""

import os
from functools import cache
from pathlib import Path

import cv2
import numpy as np

from fuzz.case import Case, Content, Declined, Kind
from fuzz.configurations import INFER
from fuzz.draw import Draw
from fuzz.picture_bytes import MAKERS, honest, special
from ppdet.data.header_size import image_size
from ppdet.data.transforms.decode import Decode, DecodeAndResize, read_image
from ppdet.data.transforms.geometry.resize import Resize
from ppdet.deploy.preprocess import Preprocess
from ppdet.deploy.serving.limits import Refused, broken_image, check_image
from ppdet.utils.errors import ImageError

MAX_PIXELS = 50_000_000  # the server's default
# A progressive JPEG of the most pixels that are decoded needs 6 bytes for each: the pixels, and what its scans add to.
MEMORY = 6 * 2**28 + 128 * 2**20


def build(draw: Draw) -> Case:
    subject = draw.one(["training", "training", "reduced", "size", "deploy", "deploy", "server", "server", "drawn"])
    content: Content
    if draw.chance(0.02):
        content, made = special(draw)
        suffix = draw.one(["png", "jpg", "tif", "bmp"])
    else:
        suffix, content, made = draw.one(MAKERS)(draw)
    if draw.chance(0.05):
        suffix = draw.one(["jpg", "png", "txt", "tif"])
    size = draw.one([None, None, (48, 64), (64, 48), (10, 10)])
    return Case(subject, {f"w.{suffix}": content}, {"file": f"w.{suffix}", "size": size}, made)


def prepare(folder: Path) -> None:
    os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")
    cv2.setNumThreads(1)
    honest()


def _sample(case: Case) -> dict:
    """A record as data sets make it: with a size and boxes, or only with a path."""
    sample: dict = {"im_file": case.arguments["file"]}
    if case.arguments["size"]:
        sample["h"], sample["w"] = case.arguments["size"]
        sample["gt_bbox"] = np.array([[1, 1, 20, 20], [30, 30, 64, 48]], np.float32)
        sample["gt_class"] = np.zeros((2, 1), np.int32)
    return sample


def _training(case: Case) -> str:
    sample = Decode()(_sample(case))
    return str(sample["image"].dtype)


def _reduced(case: Case) -> str:
    transform = DecodeAndResize(Decode(), Resize(target_size=[16, 24], keep_ratio=True))
    return str(transform(_sample(case), np.random.default_rng(0))["image"].dtype)


def _size(case: Case) -> str:
    found = image_size(case.arguments["file"], case.arguments["size"])
    # Sizes come from headers; where the file can be decoded, they are right.
    try:
        decoded = read_image(case.arguments["file"], case.arguments["size"]).shape[:2]
    except ImageError:
        return "size alone"
    if tuple(found) != tuple(decoded):
        raise AssertionError(f"the header says {found}, the pixels are {decoded}")
    return "size"


@cache
def preprocess() -> Preprocess:
    return Preprocess(INFER)


def _deploy(case: Case) -> str:
    sample = preprocess().prepare(case.arguments["file"])
    return str(preprocess().join([sample])["image"].dtype)


def _server(case: Case) -> str:
    path = Path(case.arguments["file"])
    data = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
    try:
        check_image(data, MAX_PIXELS)
    except Refused as error:
        return Declined(f"status {error.status}")
    try:
        preprocess().pad(preprocess().prepare(data))
    except ImageError as error:
        return Declined(f"status {broken_image(error).status}")
    return "prepared"


def _drawn(case: Case) -> str:
    from ppdet.visualize import draw_detections

    pixels = read_image(case.arguments["file"])
    if pixels.shape[0] * pixels.shape[1] < 1_000_000:
        draw_detections(pixels, np.array([[0, 0.9, 2, 3, 12, 11]], np.float32), ["red"])
    return "drawn"


IMAGES = Kind(
    build,
    {"training": _training, "reduced": _reduced, "size": _size, "deploy": _deploy, "server": _server, "drawn": _drawn},
    prepare=prepare,
    memory=MEMORY,
)
