"""What readers of annotation files return: images with labeled boxes, and what was left out and why."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from ppdet.utils.errors import DataError, UserError
from ppdet.utils.formats.coco_annotations import LARGEST_NUMBER
from ppdet.utils.formats.coco_file import clean_name
from ppdet.utils.printable import printable
from ppdet.utils.ranges import MAX_CLASSES

if TYPE_CHECKING:
    from globox import BoundingBox

DECIMALS = 4  # of coordinates in pixels; no tool writes finer ones that mean something
LARGEST_FILE = 2**30  # bytes of a file for a whole data set
LARGEST_OF_IMAGE = 2**26  # bytes of a file for one image; LabelMe's may contain the image
LARGEST_SHARE = 2.0  # of a side; boxes may leave their image a little, but numbers above it are pixels
SHOWN = 3  # examples of each reason in a summary
LONGEST = 1000  # characters of such a line, and of a class name
# Reasons that mean a mistake in a file, behind which an object is whose box is missing from the data set.
UNREADABLE = "objects without a readable box or class left out"
MORE_FIELDS = "rows with more fields than the first line left out (a name with a comma in it needs quotes)"
UNREAD = (UNREADABLE, MORE_FIELDS)
ONE_POINT = "objects with fewer than two points left out"
LISTED = 100_000  # lines of the file that names everything that was left out


class LabeledBox(NamedTuple):
    """A box.

    label: its class. xywh: x, y, width, height in pixels. more: other fields of its COCO annotation.
    """

    label: str
    xywh: tuple[float, float, float, float]
    more: dict[str, Any] = {}


@dataclass
class LabeledImage:
    """An image as an annotation file describes it.

    name: what the file calls it, a path or an address. near: the annotation file. size: (width, height) in pixels as
    the file has it, None if it has none. make_boxes: reads the boxes once the size is known; it reports what it leaves
    out. split: the part of the data set that the tool put it in, "" for none. in_shares: whether its boxes are shares
    of its sides, which fit an image that was resized as they are.
    """

    name: str
    near: str
    size: tuple[int, int] | None
    make_boxes: Callable[[tuple[int, int]], list[LabeledBox]]
    split: str = ""
    in_shares: bool = False


@dataclass
class LabeledSet:
    """A data set as a tool wrote it.

    kind: name of the format. images: in the order of the files. names: the classes in the tool's order, as far as it
    has one; classes of boxes that are not among them follow in alphabetical order. losses: what was left out.
    """

    kind: str
    losses: "Losses"
    images: list[LabeledImage] = field(default_factory=list)
    names: list[str] = field(default_factory=list)


class Losses:
    """Counts what a conversion leaves out or changes, by reason, and where.

    Attributes:
        counts: the number of cases of each reason.
    """

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self._places: dict[str, list[str]] = {}
        self._listed = 0

    def add(self, reason: str, place: str) -> None:
        """Count a case; `place` is the file, and what in it."""
        self.counts[reason] = self.counts.get(reason, 0) + 1
        if self._listed < LISTED:
            self._listed += 1
            self._places.setdefault(reason, []).append(printable(place[:LONGEST]))

    def summary(self) -> list[str]:
        """One line for each reason: its number and the first places."""
        lines = []
        for reason, count in self.counts.items():
            places = self._places.get(reason, [])[:SHOWN]
            lines.append(f"{reason}: {count:,} ({', '.join(places)}{', …' if count > len(places) else ''})")
        return lines

    def lines(self) -> list[str]:
        """One line for each case, of the first LISTED ones."""
        return [f"{reason}: {place}" for reason, places in self._places.items() for place in places]


class Objects:
    """Turns objects of an annotation file into boxes with a function of globox, and counts those that it refuses."""

    def __init__(self, losses: Losses, place: str) -> None:
        self._losses, self._place = losses, place

    def boxes(
        self,
        objects: Iterable[Any],
        read: Callable[[Any], "BoundingBox | LabeledBox"],
        place_of: Callable[[Any], str] | None = None,
    ) -> list[LabeledBox]:
        """Return the boxes of the objects that can be read.

        Args:
            objects: parsed objects.
            read: makes a box of one; DataError says why an object is left out; other errors mean
                that it is damaged.
            place_of: says where an object is; None counts the objects.
        """
        from globox.errors import ParsingError

        found = []
        for number, thing in enumerate(objects, start=1):
            place = f"{self._place}, object {number}" if place_of is None else place_of(thing)
            try:
                box = _as_labeled(read(thing))
            except UserError as error:  # a reason of our own
                self._losses.add(str(error), place)
            except (ParsingError, ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError):
                self._losses.add(UNREADABLE, place)
            else:
                found.append(box)
        return found


def _as_labeled(box: "BoundingBox | LabeledBox") -> LabeledBox:
    """Check a box's numbers and its class, and round the numbers."""
    more: dict[str, Any] = {}
    if isinstance(box, LabeledBox):
        label, (x, y, width, height), more = box
    else:
        label, x, y, width, height = box.label, box.xmin, box.ymin, box.xmax - box.xmin, box.ymax - box.ymin
    if not all(math.isfinite(side) and abs(side) <= LARGEST_NUMBER for side in (x, y, width, height)):
        raise DataError("objects whose box is not four finite numbers left out")
    if width < 0 or height < 0:
        raise DataError("boxes that end before they begin left out")
    label = clean_name(label)
    if not label:
        raise DataError("objects without a class left out")
    if len(label) > LONGEST:
        raise DataError(f"objects whose class has more than {LONGEST:,} letters left out")
    x, y, width, height = (round(float(side), DECIMALS) for side in (x, y, width, height))
    return LabeledBox(label, (x, y, width, height), more)


def box_around(points: Iterable[Any]) -> tuple[float, float, float, float]:
    """Return x, y, width, height of the smallest box around points (x, y).

    Raises:
        DataError: there are fewer than two points. TypeError, ValueError: they are not pairs of numbers.
    """
    pairs = [(float(x), float(y)) for x, y in points]
    if len(pairs) < 2:
        raise DataError(ONE_POINT)
    xs, ys = zip(*pairs)
    return min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)


def class_order(known: Iterable[str], used: Iterable[str], source: str) -> list[str]:
    """Return the classes in the tool's order, then the other ones that boxes have, in alphabetical order.

    Raises:
        DataError: there are no classes, or too many.
    """
    names = list(dict.fromkeys(filter(None, map(clean_name, known))))
    names += sorted(set(used) - set(names))
    if not names:
        raise DataError(f"{source}: no object with a class was found, so that there is nothing to learn")
    if len(names) > MAX_CLASSES:
        raise DataError(f"{source}: {len(names):,} classes, expected at most {MAX_CLASSES:,}")
    return names
