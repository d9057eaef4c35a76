"""Draw the pictures of docs/AUGMENTATION.md: what each list of transforms on the page makes of an image.

Each picture of the page follows a list of transforms. The picture shows the image of the list, then three samples that
it makes, with their boxes. Samples that would look like the image are drawn again.

  python docs/site/augmentation_pictures.py --dataset_dir dataset/bccd
  python docs/site/augmentation_pictures.py --dataset_dir dataset/bccd --only mosaic albu
"""

import argparse
import re
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np

from ppdet import load_config
from ppdet.data.sources import COCODataSet
from ppdet.data.transforms import Decode
from ppdet.visualize.box_drawing import draw_boxes

PAGE = Path(__file__).resolve().parents[1] / "AUGMENTATION.md"
TILE = (180, 240)  # height, width in pixels
IMAGE = (480, 640)  # height, width of the images; only those of this size are used
SAMPLES = 3
GAP = 4
QUALITY = 82
COLORS = ((255, 140, 0), (220, 0, 40), (0, 90, 255))
STEP = 10**9  # of training: probabilities that grow with the steps have grown
DIFFERENT = 9.0  # mean difference of pixels from which on a sample looks different
LABELED = 0.75  # share of the objects' pixels that lies in boxes
OTHERS = 12  # images that may be joined
PICTURE = re.compile(
    r"^```yaml\n(-.*?)^```\n\n!\[[^]]*\]\((images/augmentation/(\w+)\.jpg)\)$", re.MULTILINE | re.DOTALL
)


def lists_of_page(text: str) -> dict[str, str]:
    """Return the list of transforms (YAML) that belongs to each picture of the page, by the picture's name."""
    return {name: block for block, _, name in PICTURE.findall(text)}


def build(block: str) -> Callable | list[Callable]:
    """Build the transforms of a list as a configuration does."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "list.yml"
        lines = "".join(f"  {line}\n" for line in block.splitlines())
        path.write_text(
            f"_BASE_: [fcos_r18vd_fpn_bccd.yml]\nTrainReader:\n  sample_transforms:\n{lines}", encoding="utf-8"
        )
        return load_config(path).component("TrainReader").create("sample_transforms")


def apply(transforms: Sequence[Callable], samples: list[dict], rng: np.random.Generator) -> dict:
    """Apply transforms to the first sample; those that join images get the others too."""
    sample = samples[0]
    for transform in transforms:
        further = getattr(transform, "further_images", 0)
        sample = transform([sample, *samples[1 : 1 + further]], rng) if further else transform(sample, rng)
    return sample


def tile_of(sample: dict) -> np.ndarray:
    """Draw a sample into a white tile of TILE; of which a larger one than IMAGE fills all."""
    image = np.ascontiguousarray(sample["image"]).copy()
    labels = sample["gt_class"].reshape(-1).tolist()
    h, w = image.shape[:2]
    scale = min(TILE[0] / IMAGE[0], TILE[0] / h, TILE[1] / w)
    colors, texts = [COLORS[label % len(COLORS)] for label in labels], [""] * len(labels)
    draw_boxes(image, sample["gt_bbox"], colors, texts, shrinks=1.5 / scale)
    shown = cv2.resize(image, (round(w * scale), round(h * scale)), interpolation=cv2.INTER_AREA)
    tile = np.full((*TILE, 3), 255, dtype=np.uint8)
    y, x = (TILE[0] - shown.shape[0]) // 2, (TILE[1] - shown.shape[1]) // 2
    tile[y : y + shown.shape[0], x : x + shown.shape[1]] = shown
    return tile


def strip(transforms: Sequence[Callable], load: Callable[[int], dict]) -> np.ndarray:
    """Return the picture of a list: the first image, and samples that look different from it and from each other."""
    tiles = [tile_of(load(0))]
    for seed in range(300):
        rng = np.random.default_rng(seed)
        samples = [load(0), *(load(int(number)) for number in rng.permutation(np.arange(1, OTHERS))[:4])]
        tile = tile_of(apply(transforms, samples, rng))
        if all(difference(tile, other) > DIFFERENT for other in tiles):
            tiles.append(tile)
        if len(tiles) == 1 + SAMPLES:
            break
    gap = np.full((TILE[0], GAP, 3), 255, dtype=np.uint8)
    return np.hstack([part for tile in tiles for part in (tile, gap)][:-1])


def difference(tile: np.ndarray, other: np.ndarray) -> float:
    """Return the mean difference of two tiles where they are not both white."""
    return float(np.abs(tile.astype(int) - other)[(tile < 255) | (other < 255)].mean())


def legible(records: Sequence[dict]) -> list[dict]:
    """Return the images with all classes, few boxes, and hardly anything outside of boxes, fewest boxes first."""
    full = [one for one in records if len(np.unique(one["gt_class"])) == len(COLORS) and (one["h"], one["w"]) == IMAGE]
    labeled = [one for one in full if labeled_share(Decode()(dict(one))) > LABELED]
    return sorted(labeled, key=lambda record: len(record["gt_bbox"]))


def labeled_share(sample: dict) -> float:
    """Return how much of what is darker than the background lies in boxes."""
    green = cv2.GaussianBlur(sample["image"][..., 1], (0, 0), 3)
    objects = green < np.percentile(green, 97) - 20
    total = objects.sum()
    for x1, y1, x2, y2 in sample["gt_bbox"].astype(int):
        objects[y1:y2, x1:x2] = False
    return 1 - objects.sum() / total


def main() -> None:
    """Draw the pictures, or those that --only names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset_dir", default="dataset/bccd", help="folder with annotations/train.json and images")
    parser.add_argument("--only", nargs="+", help="names of pictures (default: all)")
    arguments = parser.parse_args()
    fields = ["image", "gt_bbox", "gt_class", "is_crowd"]
    dataset = COCODataSet(
        dataset_dir=arguments.dataset_dir, image_dir="images", anno_path="annotations/train.json", data_fields=fields
    )
    records, decode = legible(dataset.records), Decode()

    def load(number: int) -> dict:
        return decode({**records[number], "curr_iter": STEP})

    for name, block in lists_of_page(PAGE.read_text(encoding="utf-8")).items():
        if arguments.only is None or name in arguments.only:
            path = PAGE.parent / "images" / "augmentation" / f"{name}.jpg"
            path.parent.mkdir(exist_ok=True)
            picture = cv2.cvtColor(strip(build(block), load), cv2.COLOR_RGB2BGR)
            cv2.imwrite(str(path), picture, [cv2.IMWRITE_JPEG_QUALITY, QUALITY, cv2.IMWRITE_JPEG_OPTIMIZE, 1])
            print(f"{path} ({path.stat().st_size // 1024} KiB)")


if __name__ == "__main__":
    main()
