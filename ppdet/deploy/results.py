"""The results of detection on image files: pictures with boxes, COCO results (bbox.json), and pre-annotations.

`ppdet infer` (a trained model) and `ppdet detect` (an exported model) share it.
"""

import contextlib
import os
import time
from collections.abc import Generator, Iterable, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ppdet.data.annotations.pre_annotations import PreAnnotations
from ppdet.data.classes import category_id
from ppdet.data.transforms.decode import read_image
from ppdet.utils.class_thresholds import Thresholds, in_words, is_kept
from ppdet.utils.disk.files import write_json
from ppdet.utils.errors import DataError
from ppdet.utils.formats.coco_file import file_names_of, image_ids_of, load_coco
from ppdet.utils.logger import get_logger, is_watched
from ppdet.utils.printable import counted
from ppdet.utils.process.stop import Stopped, StopRequests
from ppdet.visualize import draw_detections, has_room, write_picture

logger = get_logger(__name__)

# Index of an image in the list of paths, and its detections, rows (M, 6) of [class, score, x1, y1, x2, y2] in pixels.
ImageRows = tuple[int, np.ndarray]


def write_results(
    detections: Iterable[ImageRows],
    paths: Sequence[str],
    output_dir: str,
    *,
    class_names: Sequence[str],
    category_ids: Sequence[int],
    draw_threshold: Thresholds = 0.5,
    visualize: bool = True,
    save_results: bool = False,
    save_threshold: float = 0.0,
    image_ids: Sequence[int] | None = None,
    pre_annotations: PreAnnotations | None = None,
) -> None:
    """Draw the detections of each image, write COCO results, and log a summary.

    A terminal shows a progress bar. Ctrl-C and SIGTERM end it after the current image, and the results so far are
    written.

    Args:
        detections: the detections of each image, in any order; an image that could not be read is missing.
        paths: paths of all images.
        output_dir: folder for pictures and bbox.json.
        class_names, category_ids: name and COCO category id of each class.
        draw_threshold: least score of a drawn detection, for all classes or for each.
        visualize: draw pictures.
        save_results: write bbox.json.
        save_threshold: least score of a detection in bbox.json.
        image_ids: id of each path in bbox.json; None for its position in the list.
        pre_annotations: write the detections that are drawn as labels of this format too.

    Raises:
        DataError: no image could be read, or the pre-annotations cannot be written, see `PreAnnotations`.
        OSError: a file cannot be written.
        Stopped: a signal has ended it before the last image.
    """
    output = Path(output_dir)
    output.mkdir(parents=True, exist_ok=True)
    names = picture_names(paths)
    for path, name in zip(paths, names) if visualize else ():
        if (output / name).resolve() == Path(path).resolve():
            raise DataError(f"{output}: pictures would overwrite the images themselves: name another --output_dir")
    if pre_annotations:
        pre_annotations.check(paths, output)
    certain: dict[int, np.ndarray] = {}  # detections for pre-annotations
    ids = range(len(paths)) if image_ids is None else image_ids
    results, images, boxes, start = [], 0, 0, time.perf_counter()
    requests = StopRequests("finishing this image, then writing what is done")
    with requests, contextlib.closing(with_progress(detections, len(paths))) as watched:
        requests.can_wait = True
        for index, rows in watched:
            images += 1
            kept = rows[is_kept(rows[:, 1], rows[:, 0], draw_threshold)]
            boxes += len(kept)
            if pre_annotations:
                certain[index] = kept
            if visualize:
                drawn = draw_detections(read_image(paths[index]), rows, class_names, draw_threshold)
                _write(drawn, output / names[index])
            if save_results:
                saved = rows[rows[:, 1] >= save_threshold]
                results += coco_results(ids[index], paths[index], saved, category_ids, class_names)
            if requests.received:
                break
    if not images and not requests.received:
        raise DataError(f"none of the {len(paths)} images could be read, beginning with {paths[0]}")
    seconds = time.perf_counter() - start
    speed = images / max(seconds, 1e-9)
    logger.info("%s in %.1f s: %.2f images/s", counted(images, "image"), seconds, speed)
    logger.info("%s %s", counted(boxes, "detection"), in_words(draw_threshold))
    if requests.received:
        logger.warning("stopped after %d of %d images", images, len(paths))
    elif images < len(paths):
        logger.warning("%d of %d images could not be read", len(paths) - images, len(paths))
    if save_results:
        write_json(output / "bbox.json", results)
        logger.info("detections: %s", output / "bbox.json")
    if visualize:
        logger.info("pictures: %s", output)
    if pre_annotations and certain:
        pre_annotations.write(certain, paths, class_names, output)
    if requests.received:
        raise Stopped(requests.received)


def _write(picture: np.ndarray, path: Path) -> None:
    """Write a picture; as PNG if it is too long for the format of its name, or not at all if it is too long for PNG."""
    if has_room(path.suffix, picture):
        write_picture(picture, path)
    elif has_room(".png", picture):
        write_picture(picture, path.with_name(f"{path.name}.png"))
    else:
        logger.warning("%s: not drawn: no format has pictures of %d x %d pixels", path, *picture.shape[:2])


def with_progress(detections: Iterable[ImageRows], total: int) -> Generator[ImageRows, None, None]:
    """Yield the detections, and show a progress bar of all `total` images, which counts skipped images too."""
    with tqdm(total=total, desc="detect", unit="image", leave=False, disable=not is_watched()) as bar:
        try:
            for index, rows in detections:
                yield index, rows
                bar.update(index + 1 - bar.n)
        finally:
            if isinstance(detections, Generator):
                detections.close()


def picture_names(paths: Sequence[str]) -> list[str]:
    """A file name for the picture of each path: the image's own name, with its folders in front if names repeat."""
    names = [Path(path).name for path in paths]
    if len(set(names)) < len(names):
        common = os.path.commonpath([Path(path).resolve().parent for path in paths])
        names = ["_".join(Path(path).resolve().relative_to(common).parts) for path in paths]
    # OpenCV chooses the format by the suffix. Formats that a build of OpenCV may lack become PNG.
    kept = (".jpg", ".jpeg", ".png", ".bmp")
    names = [name if name.lower().endswith(kept) else f"{name}.png" for name in names]
    # Names may still repeat: of folders a/b_c and a_b/c, or of files x.tif and x.tif.png.
    return names if len(set(names)) == len(names) else [f"{i:06d}_{name}" for i, name in enumerate(names)]


def coco_image_ids(annotations: str, paths: Sequence[str]) -> list[int]:
    """Ids of image files in COCO annotations, found by file_name, which is the end of the path or its last part.

    Args:
        annotations: path of the COCO JSON file.

    Raises:
        DataError: the file is not COCO JSON, or it has an image not at all or several times.
    """
    ids: dict[tuple[str, ...], list[int]] = {}
    content = load_coco(annotations)
    for image_id, name in zip(image_ids_of(content, annotations), file_names_of(content, annotations)):
        # Files that were made on Windows have backslashes.
        places = {Path(spelled).parts for spelled in (name, name.replace("\\", "/"))}
        for key in places | {parts[-1:] for parts in places}:
            ids.setdefault(key, []).append(image_id)
    found: dict[int, str] = {}
    for path in paths:
        parts = Path(path).resolve().parts
        named = next((ids[parts[i:]] for i in range(len(parts)) if parts[i:] in ids), [])
        if len(named) != 1:
            reason = f"{len(named)} of its images have that name" if named else "it is not in it"
            raise DataError(f"{path} cannot be found in {annotations}: {reason}")
        if named[0] in found:
            raise DataError(f"{path} and {found[named[0]]} are the same image in {annotations}")
        found[named[0]] = path
    return list(found)


def coco_results(
    image_id: int, path: str, rows: np.ndarray, category_ids: Sequence[int], class_names: Sequence[str]
) -> list[dict]:
    """Entries of an image in COCO results. Since other annotation files may number images and categories differently,
    an entry also has file_name and category_name.

    Args:
        image_id: the image's id.
        path: the image's path, for file_name.
        rows: detections (M, 6) of [class, score, x1, y1, x2, y2].
        category_ids, class_names: COCO category id and name of each class.
    """
    return [
        {
            "image_id": image_id,
            "file_name": path,
            "category_id": category_id(int(label), category_ids),
            **({"category_name": class_names[int(label)]} if int(label) < len(class_names) else {}),
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "score": score,
        }
        for label, score, x1, y1, x2, y2 in rows.tolist()
    ]
