"""Download BCCD (364 microscope images of blood cells, MIT license) and convert it to COCO format.

The source is https://github.com/Shenggan/BCCD_Dataset, annotated in Pascal VOC's XML. The conversion was tested
with it; the real archive has never been downloaded by this code.
"""

import argparse
import shutil
import sys
import tempfile
import xml.etree.ElementTree as ElementTree  # nosec B405  # see below
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from ppdet.utils.disk.archive import ArchiveError, unpack
from ppdet.utils.disk.download import DownloadError, download
from ppdet.utils.disk.files import read_text, write_json
from ppdet.utils.errors import DataError

URL = "https://github.com/Shenggan/BCCD_Dataset/archive/refs/heads/master.zip"
CLASS_NAMES = ("Platelets", "RBC", "WBC")
SPLITS = ("train", "val", "test")
EXAMPLES = """examples:
  python dataset/bccd/download_bccd.py
  python dataset/bccd/download_bccd.py --from BCCD_Dataset          # a clone of the repository
  python dataset/bccd/download_bccd.py --from ../shared/data/bccd   # a copy in COCO format
"""


def convert_voc(source: Path, output: Path) -> dict[str, tuple[int, int]]:
    """Convert a folder in Pascal VOC's format to images/ and annotations/{train,val,test}.json in the folder `output`.

    Boxes keep VOC's numbers: x = xmin, width = xmax - xmin. Boxes without an area are kept (BCCD has two): they are
    part of the published data.

    Args:
        source: folder with Annotations/*.xml, JPEGImages/*.jpg and ImageSets/Main/{train,val,test}.txt.

    Returns:
        The number of images and of boxes for each split.

    Raises:
        DataError: a file is missing, or its content is not as expected.
    """
    contents = {}
    for split in SPLITS:
        listed = source / "ImageSets" / "Main" / f"{split}.txt"
        if not listed.is_file():
            raise DataError(f"{listed}: not found, expected the names of the images of this split")
        contents[split] = _convert_split(source, read_text(listed).split())
    (output / "images").mkdir(parents=True, exist_ok=True)
    for split, content in contents.items():
        for image in content["images"]:
            name = image["file_name"]
            shutil.copyfile(source / "JPEGImages" / name, output / "images" / name)
        write_json(output / "annotations" / f"{split}.json", content)
    return {split: (len(c["images"]), len(c["annotations"])) for split, c in contents.items()}


def _convert_split(source: Path, names: list[str]) -> dict[str, Any]:
    images, annotations = [], []
    for image_id, name in enumerate(names, start=1):
        path = source / "Annotations" / f"{name}.xml"
        if not (source / "JPEGImages" / f"{name}.jpg").is_file():
            raise DataError(f"{source}/JPEGImages/{name}.jpg: not found, but a split lists it")
        try:
            root = ElementTree.parse(path).getroot()  # nosec B314  # Expat since 2.4.1 bounds entities
            width, height = (int(root.find("size").find(key).text) for key in ("width", "height"))
            boxes = [_read_object(element) for element in root.iter("object")]
        except (OSError, ElementTree.ParseError, AttributeError, TypeError, ValueError) as error:
            raise DataError(f"{path}: expected Pascal VOC's XML ({error})") from None
        images.append({"id": image_id, "file_name": f"{name}.jpg", "width": width, "height": height})
        for category_id, bbox in boxes:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": category_id,
                    "bbox": bbox,
                    "area": bbox[2] * bbox[3],
                    "iscrowd": 0,
                }
            )
    return {
        "info": {"description": "BCCD (MIT license), converted from Pascal VOC"},
        "images": images,
        "annotations": annotations,
        "categories": [
            {"id": index + 1, "name": name, "supercategory": "cell"} for index, name in enumerate(CLASS_NAMES)
        ],
    }


def _read_object(element: ElementTree.Element) -> tuple[int, list[int]]:
    """Return category id and box [x, y, width, height]; raise AttributeError or ValueError if a part is missing."""
    name = element.find("name").text
    if name not in CLASS_NAMES:
        raise ValueError(f"class {name!r}, expected one of {', '.join(CLASS_NAMES)}")
    box = element.find("bndbox")
    x1, y1, x2, y2 = (int(float(box.find(key).text)) for key in ("xmin", "ymin", "xmax", "ymax"))
    if x2 < x1 or y2 < y1:
        raise ValueError(f"box ({x1}, {y1}, {x2}, {y2}) ends before it begins")
    return CLASS_NAMES.index(name) + 1, [x1, y1, x2 - x1, y2 - y1]


def get_from_folder(source: Path, output: Path) -> None:
    """Fill `output` from a folder: copy it if it is in COCO's format, or convert a VOC folder anywhere below it."""
    if (source / "annotations" / "train.json").is_file() and (source / "images").is_dir():
        for folder in ("images", "annotations"):  # annotations last: where they exist, the copy is complete
            shutil.copytree(source / folder, output / folder, dirs_exist_ok=True)
        return
    trees = sorted(path.parents[1] for path in source.glob("**/ImageSets/Main"))
    if not trees:
        raise DataError(f"{source}: expected annotations/train.json and images/, or a folder with ImageSets/Main (VOC)")
    for split, (images, boxes) in convert_voc(trees[0], output).items():
        print(f"{split}: {images} images, {boxes} boxes")


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(
        description="Download BCCD and convert it to COCO format.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    here = Path(__file__).resolve().parent
    parser.add_argument("--output", type=Path, default=here, help="folder for the files (default: dataset/bccd)")
    parser.add_argument("--from", dest="source", type=Path, metavar="DIR", help="use this copy instead of downloading")
    parser.add_argument("--url", default=URL, help="address of the repository's archive (default: %(default)s)")
    options = parser.parse_args(arguments)
    if all((options.output / "annotations" / f"{split}.json").is_file() for split in SPLITS):
        print(f"{options.output} is complete: nothing to do (delete its annotations/ to start over)")
        return 0
    try:
        if options.source is not None:
            get_from_folder(options.source, options.output)
        else:
            archive = options.output / "bccd.zip"
            download(
                options.url,
                archive,
                hint=", then run this again, or use --from with a clone of the repository",
            )
            with tempfile.TemporaryDirectory() as folder:
                unpack(archive, folder)
                get_from_folder(Path(folder), options.output)
            archive.unlink()
    except (DownloadError, ArchiveError, DataError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"written to {options.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
