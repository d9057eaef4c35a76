"""The results of picking: a list of files, and a page with the picked images and what was detected in them."""

from pathlib import Path

import numpy as np

from ppdet.data.transforms.decode import read_image
from ppdet.engine.picking.pick import Picks
from ppdet.utils.disk.files import atomic_path
from ppdet.visualize import draw_detections
from ppdet.visualize.pages import Picture, Section, Tag, gallery, histogram, tiles, write_page
from ppdet.visualize.pages.gallery import shrinks, thumbnail

LIST, PAGE = "pick.txt", "pick.html"
MOST_PICTURES = 500  # of a page


def write_picks(picks: Picks, output_dir: str | Path, threshold: float) -> None:
    """Write pick.txt, the paths in the order of choice, and pick.html into a folder.

    Args:
        threshold: least score of a detection that is drawn.

    Raises:
        OSError: a file cannot be written.
    """
    output = Path(output_dir)
    paths = [picks.seen.paths[number] for number in picks.chosen]
    with atomic_path(output / LIST) as temporary:
        temporary.write_text("".join(f"{path}\n" for path in paths), encoding="utf-8", newline="\n")
    counts = {
        "images to label": len(paths),
        "images in all": len(picks.seen.paths),
        "labeled already": len(picks.labeled),
        "near-duplicates left out": picks.duplicates,
    }
    sections = [
        Section("Images to label next", [tiles(counts), gallery(_pictures(picks, threshold))], _note(picks, threshold))
    ]
    if picks.seen.class_names:
        sections.append(Section("Uncertain objects in an image", _histograms(picks)))
    write_page(output / PAGE, "Images to label next", sections, f"{len(paths)} of {len(picks.seen.paths)} images")


def _note(picks: Picks, threshold: float) -> str:
    order = "In the order in which they were picked: start with the first ones. "
    if picks.seen.class_names:
        is_drawn = any((picks.seen.rows[number][:, 1] >= threshold).any() for number in picks.chosen)
        return order + (
            "Each has objects that the detector is uncertain about, of classes with few labels above all, and differs "
            "from those before it (the distance is between 0, the same, and 2)."
            + ("" if is_drawn else f" No detection in them has a score of {threshold:g}, from which boxes are drawn.")
        )
    return order + "Each differs in its colors from those before it; no detector was asked."


def _pictures(picks: Picks, threshold: float) -> list[Picture]:
    names = picks.seen.class_names
    pictures = []
    for place, (number, distance) in enumerate(zip(picks.chosen, picks.distances), start=1):
        if place > MOST_PICTURES:
            break
        image, scale = thumbnail(read_image(picks.seen.paths[number]))
        rows = picks.seen.rows[number]
        shown = rows[rows[:, 1] >= threshold]
        tags = [Tag(names[int(label)], "", score) for label, score in shown[:, :2].tolist()]
        shown = np.concatenate([shown[:, :2], shown[:, 2:] * scale], axis=1)
        drawn = draw_detections(image, shown, names, threshold, shrinks(image))
        parts = [f"{picks.objects[number]:.1f} uncertain objects"] if names else []
        parts += [f"distance {distance:.2g}"] if np.isfinite(distance) else []
        caption = f"{place}. {', '.join(parts)}"
        pictures.append(Picture(picks.seen.paths[number], [("", drawn)], tags, caption))
    return pictures


def _histograms(picks: Picks) -> list[object]:
    counts, edges = np.histogram(picks.objects, bins=20)
    chosen, _ = np.histogram(picks.objects[picks.chosen], bins=edges)
    return [
        histogram(title, edges.tolist(), values.tolist(), "uncertain objects")
        for title, values in (("all images", counts), ("picked images", chosen))
    ]
