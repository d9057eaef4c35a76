"""Generate the quick start's data set: circles, squares, triangles and stars, in COCO format."""

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from ppdet.data.shapes import CLASS_NAMES, HARD_CASES, generate

EXAMPLES = """examples:
  python dataset/shapes/generate.py
  python dataset/shapes/generate.py --train 1000 --val 200 --size 192
  python dataset/shapes/generate.py --output /tmp/shapes --seed 7
"""


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    folder = Path(__file__).resolve().parent / "data"
    parser.add_argument("--output", type=Path, default=folder, help="folder to write (default: dataset/shapes/data)")
    parser.add_argument("--train", type=_at_least(1), default=600, help="training images (default: 600)")
    parser.add_argument("--val", type=_at_least(1), default=100, help="validation images (default: 100)")
    parser.add_argument("--size", type=_at_least(96), default=128, help="side of the images in pixels (default: 128)")
    parser.add_argument("--seed", type=_at_least(0), default=0, help="another seed gives other images (default: 0)")
    options = parser.parse_args(arguments)
    start = time.perf_counter()
    try:
        summary = generate(options.output, train=options.train, val=options.val, size=options.size, seed=options.seed)
    except OSError as error:
        print(f"error: cannot write the data set to {options.output}: {error}", file=sys.stderr)
        return 1
    if summary is None:
        print(f"{options.output} is complete: nothing to do")
        return 0
    for split, counts in summary.items():
        classes = ", ".join(f"{counts[name]} {name}s" for name in CLASS_NAMES)
        cases = ", ".join(f"{counts[name]} {name}" for name in HARD_CASES)
        images = counts["plain"] + sum(counts[name] for name in HARD_CASES)
        print(f"{split}: {images} images of {options.size} x {options.size}: {classes} (hard: {cases})")
    print(f"written to {options.output} in {time.perf_counter() - start:.1f} s")
    return 0


def _at_least(lowest: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.isdigit() or int(text) < lowest:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least {lowest}")
        return int(text)

    return parse


if __name__ == "__main__":
    sys.exit(main())
