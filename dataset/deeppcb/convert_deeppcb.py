"""Convert a clone of DeepPCB (1,500 images of circuit boards with six kinds of defects) to COCO format.

The source is https://github.com/tangsanli5201/DeepPCB (Tang et al., arXiv:1902.06197), whose README asks to use the
data for research only. Its split is kept: trainval.txt becomes train.json, and test.txt val.json. Only the tested
images are used, and not their templates. The published JPEG files show black and white with the noise of compression;
they become PNG files of one bit per pixel, with a threshold of 128. The conversion was tested with files of the same
names and format; the real ones have never been converted by this code.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import cv2

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from ppdet.utils.disk.files import read_text, write_json
from ppdet.utils.errors import DataError

CLASS_NAMES = ("open", "short", "mousebite", "spur", "copper", "pin-hole")  # types 1 to 6
SPLITS = {"train": "trainval.txt", "val": "test.txt"}
THRESHOLD = 128  # pixels of at least this value become white
EXAMPLES = """examples:
  git clone https://github.com/tangsanli5201/DeepPCB
  python dataset/deeppcb/convert_deeppcb.py DeepPCB
"""


def convert(source: Path, output: Path) -> dict[str, tuple[int, int]]:
    """Convert a clone to images/ and annotations/{train,val}.json in the folder `output`.

    Returns:
        The number of images and of boxes for each split.

    Raises:
        DataError: a file is missing, or its content is not as expected.
    """
    folder = next((listed.parent for listed in sorted(source.glob("**/trainval.txt"))), None)
    if folder is None:
        raise DataError(f"{source}: expected a clone of DeepPCB, with trainval.txt in a folder of it")
    contents = {split: _convert_split(folder, name, output / "images") for split, name in SPLITS.items()}
    for split, content in contents.items():
        write_json(output / "annotations" / f"{split}.json", content)
    return {split: (len(content["images"]), len(content["annotations"])) for split, content in contents.items()}


def _convert_split(folder: Path, name: str, output: Path) -> dict[str, Any]:
    images: list[dict] = []
    annotations: list[dict] = []
    for line in _lines(folder / name):
        if len(line) != 2:
            raise DataError(
                f"{folder / name}: expected an image and its annotations in each line, got {' '.join(line)!r:.80}"
            )
        image = folder / line[0]
        height, width = _make_png(image.with_name(f"{image.stem}_test.jpg"), output / f"{image.stem}.png")
        images.append({"id": len(images) + 1, "file_name": f"{image.stem}.png", "width": width, "height": height})
        for category_id, bbox in _boxes(folder / line[1]):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": len(images),
                    "category_id": category_id,
                    "bbox": bbox,
                    "area": bbox[2] * bbox[3],
                    "iscrowd": 0,
                }
            )
    categories = [{"id": number, "name": name} for number, name in enumerate(CLASS_NAMES, start=1)]
    return {"images": images, "annotations": annotations, "categories": categories}


def _lines(path: Path) -> list[list[str]]:
    """The words of each line of a file that is not empty."""
    try:
        return [line.split() for line in read_text(path).splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from None


def _boxes(path: Path) -> list[tuple[int, list[int]]]:
    """The category id and the box [x, y, width, height] of each line "x1 y1 x2 y2 type"."""
    boxes = []
    for line in _lines(path):
        try:
            x1, y1, x2, y2, kind = map(int, line)
        except ValueError:
            raise DataError(f"{path}: expected x1 y1 x2 y2 type in each line, got {' '.join(line)!r:.80}") from None
        if not (x1 < x2 and y1 < y2 and 1 <= kind <= len(CLASS_NAMES)):
            raise DataError(f"{path}: {' '.join(line)} is no box of one of the types 1 to {len(CLASS_NAMES)}")
        boxes.append((kind, [x1, y1, x2 - x1, y2 - y1]))
    return boxes


def _make_png(source: Path, path: Path) -> tuple[int, int]:
    """Write an image in black and white; return its height and width."""
    image = cv2.imread(str(source), cv2.IMREAD_GRAYSCALE)
    if image is None:
        raise DataError(f"{source}: not found, or not an image, but a split lists it")
    path.parent.mkdir(parents=True, exist_ok=True)
    is_white = (image >= THRESHOLD).astype("uint8") * 255
    if not cv2.imwrite(str(path), is_white, [cv2.IMWRITE_PNG_BILEVEL, 1]):
        raise DataError(f"{path}: cannot be written")
    return image.shape[0], image.shape[1]


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(
        description="Convert a clone of DeepPCB to COCO format.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("source", type=Path, metavar="CLONE", help="folder of the clone")
    here = Path(__file__).resolve().parent
    parser.add_argument("--output", type=Path, default=here, help="folder for the files (default: dataset/deeppcb)")
    options = parser.parse_args(arguments)
    try:
        counts = convert(options.source, options.output)
    except (DataError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    for split, (images, boxes) in counts.items():
        print(f"{split}: {images} images, {boxes} boxes")
    print(f"written to {options.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
