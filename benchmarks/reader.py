"""Speed of the training reader with 0, 1 and 2 workers, at the image size that FCOS is trained with.

The training images of a data set go through the TrainReader of configs/fcos/fcos_r50_fpn_1x_coco.yml (decode, resize to
at most 800x1333, flip, normalize, pad, targets) up to tensors on the device. The limit is the time that any reader
needs in one process: cv2.imread and cv2.resize (uint8, bilinear) of the same files to the same sizes, in one thread.
"""

import argparse
from pathlib import Path

from common import ROOT, make_parser, medians, report

EXAMPLES = """examples:
  python dataset/shapes/generate.py && python benchmarks/reader.py
  python benchmarks/reader.py --dataset_dir dataset/bccd --repeat 9 --json reader.json
"""
CONFIG = ROOT / "configs/fcos/fcos_r50_fpn_1x_coco.yml"
WORKERS = (0, 1, 2)
HEADER = ("what", "images/s", "ms per image", "time relative to the limit")


def parse_arguments() -> argparse.Namespace:
    parser = make_parser(__doc__, EXAMPLES)
    parser.add_argument(
        "--dataset_dir",
        default=str(ROOT / "dataset/shapes/data"),
        help="folder with annotations/train.json and images/train or images (default: dataset/shapes/data)",
    )
    parser.add_argument(
        "--images", type=int, default=200, help="number of images to read, the first ones (default: 200)"
    )
    parser.add_argument("--batch_size", type=int, default=2, help="images per batch (default: 2)")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    from ppdet.utils.process.paddle_setup import load_paddle

    load_paddle(announce=False)
    import cv2

    from ppdet.core.workspace import load_config
    from ppdet.data.sources import COCODataSet

    cv2.setNumThreads(0)
    folder = Path(arguments.dataset_dir)
    data = COCODataSet(
        dataset_dir=str(folder),
        image_dir="images/train" if (folder / "images/train").is_dir() else "images",
        anno_path="annotations/train.json",
        data_fields=["image", "gt_bbox", "gt_class"],
        sample_num=arguments.images,
    )
    cfg = load_config(str(CONFIG), ["use_gpu=false", f"TrainReader.batch_size={arguments.batch_size}"])
    images = len(data) // arguments.batch_size * arguments.batch_size
    readers = {workers: cfg.create("TrainReader", dataset=data, worker_num=workers) for workers in WORKERS}
    resize = next(t for t in readers[0].sample_transforms if hasattr(t, "new_size"))

    def limit() -> None:
        for record in data.records[:images]:
            height, width = resize.new_size(record["h"], record["w"])
            cv2.resize(cv2.imread(record["im_file"]), (width, height), interpolation=cv2.INTER_LINEAR)

    stages = {"limit": limit}
    for workers, reader in readers.items():
        stages[f"{workers} worker{'' if workers == 1 else 's'}"] = lambda reader=reader: sum(1 for _ in reader)
    seconds = medians(stages, arguments.repeat)
    names = {"limit": "limit: imread + resize"}
    rows = [
        (names.get(name, name), images / value, 1000 * value / images, value / seconds["limit"])
        for name, value in seconds.items()
    ]
    title = f"Training reader, {images} images of {folder.name}, up to 800x1333, batches of {arguments.batch_size}"
    report(title, HEADER, rows, arguments.json)


if __name__ == "__main__":
    main()
