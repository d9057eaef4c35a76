"""A small exported detector that finds one box in every image, which can be computed by hand."""

import struct
from pathlib import Path

import cv2
import numpy as np
import paddle
import yaml
from paddle.static import InputSpec

BOX = (16, 24, 48, 40)  # x1, y1, x2, y2 in pixels of the network's input
# A Preprocess list that gives inputs of several sizes, all with the pixel (32, 32), which the toy looks at.
KEEPS_RATIO = [
    {"type": "Resize", "target_size": [64, 128], "keep_ratio": True, "interp": 1},
    {"type": "NormalizeImage", "mean": [0, 0, 0], "std": [1, 1, 1], "is_scale": True, "norm_type": "mean_std"},
    {"type": "Permute"},
    {"type": "PadStride", "stride": 64},
]


class Toy(paddle.nn.Layer):
    """Detects BOX with class 1; its score is the brightness of the image's center."""

    def __init__(self):
        super().__init__()
        mean = paddle.ParamAttr(initializer=paddle.nn.initializer.Constant(1 / 3))
        self.gray = paddle.nn.Conv2D(3, 1, 1, weight_attr=mean, bias_attr=False)

    def forward(self, image, scale_factor):
        score = self.gray(image)[:, 0, 32, 32]
        ones = score * 0 + 1
        scale_y, scale_x = scale_factor[:, 0], scale_factor[:, 1]
        x1, y1, x2, y2 = (side / scale for side, scale in zip(BOX, (scale_x, scale_y) * 2))
        return paddle.stack([ones, score, x1, y1, x2, y2], axis=1), ones.astype("int32")


def write_toy(
    folder: Path, preprocess: list | None = None, toy: paddle.nn.Layer | None = None, **settings: object
) -> Path:
    """Export it, or another one; infer_cfg.yml is as PaddleDetection writes it, but for `settings`."""
    toy = toy or Toy()
    toy.eval()
    spec = [InputSpec([None, 3, None, None], "float32", "image"), InputSpec([None, 2], "float32", "scale_factor")]
    paddle.jit.save(paddle.jit.to_static(toy, input_spec=spec, full_graph=True), str(folder / "model"))
    content = {
        "mode": "paddle",
        "draw_threshold": 0.5,
        "metric": "COCO",
        "use_dynamic_shape": True,
        "arch": "FCOS",
        "min_subgraph_size": 3,
        "Preprocess": preprocess
        or [
            {"type": "Resize", "target_size": [64, 128], "keep_ratio": True, "interp": 1},
            {"type": "NormalizeImage", "mean": [0, 0, 0], "std": [1, 1, 1], "is_scale": True, "norm_type": "mean_std"},
            {"type": "Permute"},
            {"type": "PadStride", "stride": 32},
        ],
        "label_list": ["dark", "bright"],
        **settings,
    }
    (folder / "infer_cfg.yml").write_text(yaml.safe_dump(content))
    return folder


def write_video(path: Path, values: list, size: tuple = (128, 192), fps: float = 12.5) -> Path:
    """A video of gray frames (h, w), Motion JPEG in .avi, MPEG-4 in .mp4."""
    codec = "MJPG" if path.suffix == ".avi" else "mp4v"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*codec), fps, size[::-1])
    for value in values:
        writer.write(np.full((*size, 3), value, np.uint8))
    writer.release()
    return path


def read_video(path: Path) -> list:
    """Frames (h, w, 3), blue, green, red."""
    capture = cv2.VideoCapture(str(path))
    frames = []
    while capture.grab():
        frames.append(capture.retrieve()[1])
    capture.release()
    return frames


def write_varying_video(path: Path, values: list, lengths: list) -> Path:
    """A video of gray frames, each of which is shown for the given time in seconds: MPEG-4 in .mp4 or .mkv.

    OpenCV writes one frame rate only, so the times in the file are written over.
    """
    data = bytearray(write_video(path, values, fps=10).read_bytes())
    starts = [sum(lengths[:i]) for i in range(len(lengths) + 1)]
    if path.suffix == ".mkv":  # a block has its track, 0x81, and its time in milliseconds
        for i in reversed(range(1, len(values))):
            at = next(at for flags in (b"\x00", b"\x80") if (at := data.rfind(b"\x81%b" % _two(i * 100) + flags)) > 0)
            data[at + 1 : at + 3] = _two(round(starts[i] * 1000))
        at = data.index(b"\x44\x89\x88") + 3  # the duration
        data[at : at + 8] = struct.pack(">d", starts[-1] * 1000)
        path.write_bytes(data)
        return path
    at = data.index(b"mdhd") + 16
    ticks = [round(length * int.from_bytes(data[at : at + 4], "big")) for length in lengths]
    table = struct.pack(f">4sII{2 * len(ticks)}I", b"stts", 0, len(ticks), *(n for tick in ticks for n in (1, tick)))
    parents = [data.index(name) - 4 for name in (b"moov", b"trak", b"mdia", b"minf", b"stbl")]
    at = data.index(b"stts")
    old = int.from_bytes(data[at - 4 : at], "big")
    for parent in parents:  # they become longer; the frames are in front of them
        size = int.from_bytes(data[parent : parent + 4], "big") + len(table) + 4 - old
        data[parent : parent + 4] = size.to_bytes(4, "big")
    data[at - 4 : at - 4 + old] = (len(table) + 4).to_bytes(4, "big") + table
    path.write_bytes(data.replace(b"edts", b"free"))  # the edit list would end the video at its old length
    return path


def _two(number: int) -> bytes:
    return number.to_bytes(2, "big")
