"""Kills a batch job, workers and as a whole, starts it again, and sees that every image is there exactly once.

    python tests/soak/batch.py --model_dir DIR --image_dir DIR [--images 5000] [--broken 20] [--workers 2] [--seed N]

The images are links to those of --image_dir under other names; the broken ones are empty, cut short, text, and links
to nowhere. The job is the real command. Its detections are compared with those of a Detector in this process; the exit
code is 1 when something differs.
"""

import argparse
import json
import random
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from batch_runs import BatchRun, corners

from ppdet.utils.disk.images import find_images

HANGS = 3 * 3600  # seconds after which a started job counts as hanging


def make_images(folder: Path, sources: list[str], count: int, broken: int, rng: random.Random) -> dict[str, str | None]:
    """Fill a folder; return the source of each name, None for broken images."""
    made: dict[str, str | None] = {}
    bad = set(rng.sample(range(count), broken))
    for i in range(count):
        source = sources[i % len(sources)]
        name = f"{i % 7}/{i:07d}{Path(source).suffix}"
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        made[name] = None if i in bad else source
        if i not in bad:
            path.symlink_to(source)
        elif i % 4 == 0:
            path.symlink_to(folder / "nowhere")
        else:
            content = Path(source).read_bytes()
            path.write_bytes((b"", content[: len(content) // 2], b"not an image")[i % 4 - 1])
    return made


def kill_and_restart(run: BatchRun, shards: int, rng: random.Random) -> list[list]:
    """Two lives in which a worker is killed and then the job, and a third one, which loses a worker too."""
    table = []
    for share, driver_alone in ((1 / 3, False), (2 / 3, True), (1, False)):
        run.start()
        begun = time.monotonic()
        before = len(run.finished())
        last = max(before + 2, round(shards * share))
        at = rng.randint(before + 1, max(before + 1, last - 4))  # not so late that the job ends before the kill
        run.wait_for(lambda at=at: len(run.finished()) >= at, HANGS)
        time.sleep(rng.uniform(0, 2))
        run.kill_worker(rng.randrange(len(run.workers())))
        if share == 1:
            run.finish(HANGS)
            what = "a worker"
        else:
            run.wait_for(lambda last=last: len(run.finished()) >= last, HANGS)
            time.sleep(rng.uniform(0, 2))
            run.kill(driver_alone=driver_alone)
            what = "a worker, then " + ("the process that was started" if driver_alone else "all processes")
        table.append([what, before, len(run.finished()), f"{time.monotonic() - begun:.0f} s"])
    return table


def check(run: BatchRun, made: dict[str, str | None], model_dir: str) -> list[str]:
    """What is wrong with the result."""
    from pycocotools.coco import COCO

    from ppdet.deploy import Detector

    rows = run.rows()
    wrong = []
    if [(row["image_id"], row["file_name"]) for row in rows] != list(enumerate(sorted(made))):
        times = Counter(row["file_name"] for row in rows)
        missing = [name for name in made if name not in times]
        wrong.append(f"missing {missing[:5]}, more than once {[name for name, n in times.items() if n > 1][:5]}")
    backend = json.loads((run.output / "manifest.json").read_text())["backend"]
    detector = Detector(model_dir, backend, threads=1)
    expected = {source: detector.predict(source) for source in {source for source in made.values() if source}}
    for row in rows:
        source = made[row["file_name"]]
        if (row["error"] is None) != (source is not None):
            wrong.append(f"{row['file_name']}: error {row['error']}")
        elif source:
            found = expected[source]
            near = len(found) == len(row["scores"]) and found.classes.tolist() == row["classes"]
            near = near and abs(found.scores - row["scores"]).max(initial=0) < 1e-3
            if not near or abs(found.boxes - corners(row)).max(initial=0) > 0.5:
                wrong.append(f"{row['file_name']}: other detections than Detector's")
    images, annotations = set(), 0
    for path in (run.output / "coco").iterdir():
        coco = COCO(str(path))
        images.update(image["file_name"] for image in coco.dataset["images"])
        annotations += len(coco.getAnnIds())
    if images != {name for name, source in made.items() if source}:
        wrong.append("COCO files have other images")
    if annotations != sum(len(row["scores"]) for row in rows):
        wrong.append("COCO files have another number of detections than the tables")
    stray = [path.name for path in run.output.rglob("*") if path.is_file() and path.name.startswith(".")]
    return wrong + [f"left over: {name}" for name in stray]


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model_dir", required=True, metavar="DIR")
    parser.add_argument("--image_dir", required=True, metavar="DIR")
    parser.add_argument("--images", type=int, default=5000, help="default: 5000")
    parser.add_argument("--broken", type=int, default=20, help="default: 20")
    parser.add_argument("--workers", type=int, default=2, help="default: 2")
    parser.add_argument("--shard_size", type=int, help="default: a fiftieth of the images")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", metavar="DIR", help="for images and results; default: a temporary one")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    rng = random.Random(arguments.seed)
    folder = Path(arguments.folder or tempfile.mkdtemp(prefix="batch_soak_")).resolve()
    sources = find_images(str(Path(arguments.image_dir).resolve()))
    made = make_images(folder / "images", sources, arguments.images, arguments.broken, rng)
    size = arguments.shard_size or -(-arguments.images // 50)
    command = ["--model_dir", arguments.model_dir, "--input", str(folder / "images")]
    command += ["--workers", str(arguments.workers), "--cpu_threads", "1", "--shard_size", str(size)]
    run = BatchRun(folder / "out", command)
    shards = -(-arguments.images // size)
    try:
        lives = kill_and_restart(run, shards, rng)
    finally:
        if run.process.poll() is None:
            run.kill()
    print(f"{arguments.images} images, {arguments.broken} of them broken, in {shards} parts; logs beside {run.output}")
    print("\n| killed | parts before | parts after | life |\n|---|---|---|---|")
    for row in lives:
        print("| " + " | ".join(map(str, row)) + " |")
    wrong = check(run, made, arguments.model_dir)
    print("\n".join(wrong[:20]) or "every image exactly once, as Detector sees it")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
