"""What detections on image files leave behind: pictures and COCO results. Shared by tools/infer.py and deploy/."""

import contextlib
import os
import time
from collections.abc import Generator, Iterable, Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from ppdet.data.transforms.decode import read_image
from ppdet.utils.disk.files import write_json
from ppdet.utils.disk.images import find_images, parse_image_list
from ppdet.utils.errors import DataError
from ppdet.utils.formats.coco_file import file_names_of, image_ids_of, load_coco_json
from ppdet.utils.logger import get_logger, is_watched
from ppdet.utils.process.stop import Stopped, StopRequests
from ppdet.visualize import draw_detections

logger = get_logger(__name__)

# Index of an image in the list of paths, and its rows (M, 6) of [class, score, x1, y1, x2, y2] in pixels.
Detection = tuple[int, np.ndarray]


def list_images(image: str | None = None, folder: str | None = None, list_file: str | None = None) -> list[str]:
    """Paths of the images that the user named: one file, all in a folder and below, or a text file's lines.

    Raises:
        DataError: nothing there.
    """
    if folder:
        if not os.path.isdir(folder):
            raise DataError(f"{folder}: no such folder of images")
        return find_images(folder)
    if list_file:
        return parse_image_list(Path(list_file).read_bytes(), list_file)
    if not image or not os.path.isfile(image):
        raise DataError(f"{image}: no such image file")
    return [image]


def write_results(
    detections: Iterable[Detection],
    paths: Sequence[str],
    output_dir: str,
    *,
    class_names: Sequence[str],
    category_ids: Sequence[int],
    draw_threshold: float = 0.5,
    visualize: bool = True,
    save_results: bool = False,
    save_threshold: float = 0.0,
    image_ids: Sequence[int] | None = None,
) -> None:
    """Draw every image of `detections`, collect COCO results, and log a summary with speed and places.

    A progress bar shows how far it is, where a person watches. Ctrl-C and SIGTERM end it after the image at hand, and
    what is done is written.

    Args:
        output_dir: folder for pictures and bbox.json; made if missing.
        image_ids: of each path, for bbox.json; their positions in the list where there are none.
        draw_threshold: least score of a drawn detection. save_threshold: least score in bbox.json.

    Raises:
        DataError: no image could be read. OSError: something cannot be written.
        Stopped: a signal has ended it before the last image.
    """
    output = Path(output_dir)
    output.mkdir(parents=True, exist_ok=True)
    names = picture_names(paths)
    for path, name in zip(paths, names) if visualize else ():
        if (output / name).resolve() == Path(path).resolve():
            raise DataError(f"{output}: pictures would overwrite the images themselves: name another --output_dir")
    ids = range(len(paths)) if image_ids is None else image_ids
    results, images, boxes, start = [], 0, 0, time.perf_counter()
    requests = StopRequests("finishing this image, then writing what is done")
    with requests, contextlib.closing(watched(detections, len(paths))) as found:
        requests.can_wait = True
        for index, rows in found:
            images += 1
            boxes += int((rows[:, 1] >= draw_threshold).sum())
            if visualize:
                drawn = draw_detections(read_image(paths[index]), rows, class_names, draw_threshold)
                write_drawn(drawn, output / names[index])
            if save_results:
                kept = rows[rows[:, 1] >= save_threshold]
                results += coco_results(ids[index], paths[index], kept, category_ids, class_names)
            if requests.received:
                break
    if not images and not requests.received:
        raise DataError(f"none of the {len(paths)} images could be read, beginning with {paths[0]}")
    seconds = time.perf_counter() - start
    logger.info("%d images in %.1f s: %.2f images/s", images, seconds, images / max(seconds, 1e-9))
    logger.info("%d detections with a score of at least %g", boxes, draw_threshold)
    if requests.received:
        logger.warning("stopped after %d of %d images", images, len(paths))
    elif images < len(paths):
        logger.warning("%d of %d images could not be read", len(paths) - images, len(paths))
    if save_results:
        write_json(output / "bbox.json", results)
        logger.info("detections: %s", output / "bbox.json")
    if visualize:
        logger.info("pictures: %s", output)
    if requests.received:
        raise Stopped(requests.received)


def write_drawn(picture: np.ndarray, path: Path) -> None:
    """Write (H, W, 3) uint8 RGB. Raises OSError with a line that names the file, of which nothing is left then."""
    encoded = cv2.imencode(path.suffix, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1]
    try:
        path.write_bytes(encoded.tobytes())
    except OSError as error:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
        raise OSError(f"{path}: the picture cannot be written ({error.strerror or error})") from None


def watched(detections: Iterable[Detection], total: int) -> Iterator[Detection]:
    """The same, under a progress bar over all `total` images, with those that were skipped."""
    with tqdm(total=total, desc="detect", unit="image", leave=False, disable=not is_watched()) as bar:
        try:
            for index, rows in detections:
                yield index, rows
                bar.update(index + 1 - bar.n)
        finally:
            if isinstance(detections, Generator):
                detections.close()


def picture_names(paths: Sequence[str]) -> list[str]:
    """A file name for each path's picture: the image's own; with its folders in front where names repeat."""
    names = [Path(path).name for path in paths]
    if len(set(names)) < len(names):
        common = os.path.commonpath([Path(path).resolve().parent for path in paths])
        names = ["_".join(Path(path).resolve().relative_to(common).parts) for path in paths]
    # OpenCV writes by suffix; the kinds that it may be built without become PNG.
    kept = (".jpg", ".jpeg", ".png", ".bmp")
    names = [name if name.lower().endswith(kept) else f"{name}.png" for name in names]
    # Folders a/b_c and a_b/c, or files x.tif and x.tif.png, may still give one name.
    return names if len(set(names)) == len(names) else [f"{i:06d}_{name}" for i, name in enumerate(names)]


def coco_image_ids(annotations: str, paths: Sequence[str]) -> list[int]:
    """Ids of image files in a COCO json: of the entry whose file_name is the path's end, or the path's last part.

    Raises:
        DataError: it is no COCO json, or it does not have an image, or several of that name.
    """
    ids: dict[tuple[str, ...], list[int]] = {}
    content = load_coco_json(annotations)
    for image_id, name in zip(image_ids_of(content, annotations), file_names_of(content, annotations)):
        # Windows writes backslashes.
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
    """COCO result entries of an image. file_name says which file it is, category_name what the category is called:
    other annotation files may number both differently."""
    return [
        {
            "image_id": image_id,
            "file_name": path,
            "category_id": category_ids[int(label)] if int(label) < len(category_ids) else int(label),
            **({"category_name": class_names[int(label)]} if int(label) < len(class_names) else {}),
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "score": score,
        }
        for label, score, x1, y1, x2, y2 in rows.tolist()
    ]
