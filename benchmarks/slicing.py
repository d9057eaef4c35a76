"""AP of sliced inference on large images with small objects. The images are mosaics of a data set's own images.

A mosaic is a grid of images of EvalDataset with their annotations. Without slicing it is resized like a single image,
so that its objects are several times smaller than those in training.
"""

import argparse
import itertools
import json
import tempfile
from pathlib import Path

from common import report

from ppdet.cli.arguments import add_config_arguments, load_libraries
from ppdet.core.command_line import make_parser, one_line_errors, positive

EXAMPLES = """examples:
  python benchmarks/slicing.py -c configs/fcos/fcos_r18vd_fpn_bccd.yml -o weights=output/fcos_r18vd_fpn_bccd/model_final
  python benchmarks/slicing.py -c FILE -o weights=W --grid 4 --slice_size 640 640 --keep mosaics
"""


def parse_arguments() -> argparse.Namespace:
    parser = make_parser(__doc__, EXAMPLES)
    add_config_arguments(parser)
    parser.add_argument(
        "--grid", type=positive, default=3, help="number of images along each side of a mosaic (default: 3)"
    )
    parser.add_argument(
        "--slice_size",
        nargs=2,
        type=positive,
        metavar=("H", "W"),
        help="height and width of a window in pixels (default: the largest image)",
    )
    parser.add_argument(
        "--overlap", type=float, nargs="+", default=[0.0, 0.25], help="overlap ratios to measure (default: 0 0.25)"
    )
    parser.add_argument("--keep", metavar="DIR", help="write the mosaics to this folder and keep them")
    parser.add_argument("--json", metavar="FILE", help="also write the table to this file")
    return parser.parse_args()


def make_mosaics(dataset: object, folder: Path, grid: int) -> tuple[int, int]:
    """Write mosaics of grid x grid images and annotations.json; return the height and width of one cell."""
    import cv2
    import numpy as np

    from ppdet.data.transforms.decode import read_image

    content = json.loads(Path(dataset.anno_path).read_text())
    boxes: dict[int, list] = {}
    for annotation in content["annotations"]:
        boxes.setdefault(annotation["image_id"], []).append(annotation)
    height, width = (max(record[side] for record in dataset.records) for side in "hw")
    images, annotations, count = [], [], grid * grid
    for first in range(0, len(dataset.records), count):
        picture = np.full((grid * height, grid * width, 3), 114, np.uint8)
        name = f"{len(images):04d}.png"
        images.append({"id": len(images), "file_name": name, "height": grid * height, "width": grid * width})
        for place, record in enumerate(dataset.records[first : first + count]):
            top, left = place // grid * height, place % grid * width
            pixels = read_image(record["im_file"], (record["h"], record["w"]))[..., ::-1]
            picture[top : top + len(pixels), left : left + pixels.shape[1]] = pixels
            for annotation in boxes.get(int(record["im_id"].item()), []):
                x, y, *size = annotation["bbox"]
                moved = {"id": len(annotations) + 1, "image_id": images[-1]["id"], "bbox": [x + left, y + top, *size]}
                annotations.append({**annotation, **moved})
        cv2.imwrite(str(folder / name), picture)
    content.update(images=images, annotations=annotations)
    (folder / "annotations.json").write_text(json.dumps(content))
    return height, width


def measure(arguments: argparse.Namespace, folder: Path) -> tuple[str, list[list]]:
    """Return a description of the mosaics, and the rows of the table."""
    from ppdet.core.workspace import load_config
    from ppdet.deploy.slicing import MATCH_METRICS, Slicing
    from ppdet.engine.build import build_dataset, build_trained_model
    from ppdet.engine.device_choice import set_device
    from ppdet.engine.evaluator import Evaluator

    cfg = load_config(arguments.config, arguments.opt)
    set_device(cfg)
    model = build_trained_model(cfg)
    place = make_mosaics(build_dataset(cfg, "EvalDataset"), folder, arguments.grid)
    size = tuple(arguments.slice_size or place)
    data = [f"EvalDataset.dataset_dir={folder}", "EvalDataset.image_dir=.", "EvalDataset.anno_path=annotations.json"]
    mosaics = load_config(arguments.config, [*arguments.opt, *data])
    rows = []
    for name, where in (("single images", cfg), ("mosaics, whole", mosaics)):
        evaluator = Evaluator(where)
        evaluator(model)
        rows.append(row(name, evaluator.metric))
    for overlap in arguments.overlap:
        # The windows are detected once, and merged with every method.
        slicing = Slicing(size, (overlap, overlap), "concat")
        evaluator = Evaluator(mosaics, slicing=slicing)
        evaluator(model)
        rows.append(row(str(slicing), evaluator.metric))
        found, ids = evaluator.metric.detections, evaluator.metric.image_ids
        for combine, metric in itertools.product(("nms", "nmm"), MATCH_METRICS):
            slicing = Slicing(size, (overlap, overlap), combine, match_metric=metric)
            evaluator.metric.reset()
            evaluator.metric.extend(merged(found, slicing), ids)
            rows.append(row(str(slicing), evaluator.metric))
    return f"mosaics of {arguments.grid}x{arguments.grid} images of {place[0]}x{place[1]}", rows


def merged(detections: object, slicing: object) -> object:
    """Merge COCOMetric's detections of windows; return them in the same format, by image."""
    import numpy as np

    parts = []
    for image in np.unique(detections["image_id"]):
        part = detections[detections["image_id"] == image]
        boxes = part["bbox"]
        rows = np.column_stack([part["category_id"], part["score"], boxes[:, :2], boxes[:, :2] + boxes[:, 2:]])
        rows = slicing.merge(rows)
        kept = np.zeros(len(rows), dtype=detections.dtype)
        kept["image_id"], kept["category_id"], kept["score"] = image, rows[:, 0], rows[:, 1]
        kept["bbox"] = np.concatenate([rows[:, 2:4], rows[:, 4:] - rows[:, 2:4]], axis=1)
        parts.append(kept)
    return np.concatenate(parts)


def row(name: str, metric: object) -> list:
    numbers = metric.compute()
    aps = [f"{100 * numbers[key]:.1f}" for key in ("AP", "AP50", "APs", "APm", "APl", "AR100")]
    return [name, *aps, len(metric.detections)]


def main() -> None:
    arguments = parse_arguments()
    with one_line_errors(), tempfile.TemporaryDirectory() as temporary:
        load_libraries(arguments, announce=False)
        import logging

        logging.getLogger("ppdet").setLevel(logging.WARNING)
        folder = Path(arguments.keep or temporary).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        title, rows = measure(arguments, folder)
        header = ["evaluated", "AP", "AP50", "APs", "APm", "APl", "AR100", "detections"]
        report(f"Sliced inference, {title}", header, rows, arguments.json)


if __name__ == "__main__":
    main()
