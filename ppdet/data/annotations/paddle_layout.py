"""Conversions with the file names of PaddleDetection's tools/x2coco.py."""

import os
from collections.abc import Sequence
from pathlib import Path

from ppdet.data.annotations.annotated_images import read_images
from ppdet.data.annotations.image_index import ImageIndex
from ppdet.data.annotations.json_formats import read_labelme
from ppdet.data.annotations.labeled_set import Losses, class_order
from ppdet.data.annotations.sides import NAMES, split_groups
from ppdet.data.annotations.to_coco import (
    Conversion,
    coco_content,
    count_boxes,
    order_classes,
    place_files,
)
from ppdet.data.annotations.xml_formats import read_voc
from ppdet.data.sources.dataset import join_path, require_folder
from ppdet.utils.disk.files import lines_of, read_text, write_json
from ppdet.utils.disk.folders import whole_folder
from ppdet.utils.errors import DataError
from ppdet.utils.extras import require_extras


def convert_voc_list(anno_dir: str, anno_list: str, label_list: str, output: str) -> Conversion:
    """Write the Pascal VOC files that a list names into one COCO file; the images stay where they are.

    Args:
        anno_dir: folder of the XML files.
        anno_list: text file whose lines end with the name of an XML file, with or without `.xml`.
        label_list: text file with one class name on each line.
        output: the COCO file to write.

    Raises:
        DataError: a file or folder is missing, or no image is left.
    """
    require_extras(DataError, "data")
    anno_dir = join_path(None, anno_dir)
    require_folder(anno_dir)
    try:
        names = [line.split()[-1] for line in lines_of(read_text(anno_list))]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"--voc_anno_list {anno_list} cannot be read as text ({error})") from None
    listed = {os.path.basename(name.removesuffix(".xml")) for name in names}
    files = [str(path) for path in sorted(Path(anno_dir).glob("*.xml")) if path.stem in listed]
    losses = Losses()
    for name in sorted(listed - {Path(path).stem for path in files}):
        losses.add("names of the list without an XML file left out", name)
    labeled = read_voc(anno_dir, files, losses)
    read = read_images(labeled, ImageIndex(os.path.dirname(anno_dir)), losses)
    if not read:
        raise DataError(f"{anno_list}: no image is left to convert: {'; '.join(losses.summary())}")
    classes = order_classes(label_list, [], set(), read, losses, anno_dir)
    write_json(output, coco_content(read, classes))
    first = next((image for image in read if image.path), None)
    folder = str(first.path)[: -len(first.name)].rstrip("/\\") if first else os.path.dirname(anno_dir)
    return Conversion(labeled.kind, classes, folder, losses, {output: count_boxes(read)}, has_images=first is not None)


def convert_labelme_folder(json_dir: str, image_dir: str, output_dir: str, shares: Sequence[float]) -> Conversion:
    """Write output_dir/annotations/instance_train.json, instance_val.json and instance_test.json, and copy the images.

    The images of each part are copied to output_dir/train, val and test. If something cannot be written, an OSError
    says what, and output_dir is as before.

    Args:
        json_dir: folder of LabelMe's files.
        image_dir: folder of the images.
        output_dir: folder to write to.
        shares: the shares of the three parts, which add up to 1; a part with share 0 is not written.

    Raises:
        DataError: the shares do not add up to 1, a folder is missing, or no image is left.
    """
    require_extras(DataError, "data")
    if min(shares) < 0 or abs(sum(shares) - 1) > 1e-5:
        raise DataError(f"the proportions of train, val and test add up to {sum(shares):g}: expected 1")
    for folder in (json_dir, image_dir):
        require_folder(join_path(None, folder))
    losses = Losses()
    index = ImageIndex(join_path(None, image_dir))
    files = [str(path) for path in sorted(Path(join_path(None, json_dir)).glob("*.json"))]
    read = read_images(read_labelme(json_dir, files, losses), index, losses)
    if not read or read[0].path is None:
        raise DataError(f"{json_dir}: none of its annotations belongs to an image in {image_dir}")
    classes = class_order((), {box.label for image in read for box in image.boxes}, json_dir)
    used = [(name, share) for name, share in zip(NAMES, shares) if share > 0]
    counted = [count_boxes([image])[1] for image in read]
    sides = split_groups(counted, [[number] for number in range(len(read))], [share for _, share in used], seed=1)
    result = Conversion("LabelMe", classes, output_dir, losses)
    with whole_folder(Path(output_dir)) as new:
        for number, (name, _) in enumerate(used):
            part = [image for image, side in zip(read, sides) if side == number]
            place_files(part, str(new / name))
            file = os.path.join("annotations", f"instance_{name}.json")
            write_json(new / file, coco_content(part, classes))
            result.counts[os.path.join(output_dir, file)] = count_boxes(part)
    return result
