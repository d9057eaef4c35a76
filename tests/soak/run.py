"""Kills training runs at random moments, damages their checkpoints, and compares what they end with.

    python tests/soak/run.py [--kills 20] [--distributed_kills 5] [--seed N] [--folder DIR]

Every run is the real command, tools/train.py --eval -r auto. Prints tables for docs/RELIABILITY.md; the exit code is 1
when a result is not identical, bit for bit, to that of a run that nothing happened to.
"""

import argparse
import platform
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from killing import READY, SUFFIXES, TrainingRun, damage, differences, first_step, write_config

START_SHARE = 0.15  # share of the kills that fall before the first step


class Soak:
    def __init__(self, folder: Path, seed: int) -> None:
        self.rng = random.Random(seed)
        self.folder = folder
        self.config = write_config(folder, images=16, epochs=6)
        self.failures: list[str] = []

    def reference(self, processes: int) -> tuple[TrainingRun, float, float]:
        """An unbroken run, its seconds before the first step, and those from there to the end."""
        run = TrainingRun(self.config, self.folder / f"unbroken_{processes}", processes=processes)
        start = time.monotonic()
        process = run.start()
        while process.poll() is None and READY not in run.log.read_text():
            time.sleep(0.05)
        ready = time.monotonic()
        code = process.wait()
        assert code == 0, run.log.read_text()[-3000:]
        say(f"\n{processes} process(es), unbroken: {ready - start:.0f} s to the first step, "
            f"{time.monotonic() - ready:.0f} s from there; {run.progress()} steps")  # fmt: skip
        return run, ready - start, time.monotonic() - ready

    def kills(self, count: int, processes: int) -> None:
        unbroken, start_seconds, seconds = self.reference(processes)
        total = unbroken.progress()
        run = TrainingRun(self.config, self.folder / f"killed_{processes}", processes=processes)
        say("\n| kill | of | after | interrupted | steps kept | went on from step |\n|---|---|---|---|---|---|")
        for number in range(1, count + 1):
            victim = "trainer" if processes == 1 else ("all", "0", "1")[(number - 1) % 3]
            early = self.rng.random() < START_SHARE
            # Even on average over what is left to do, so that all parts of the run are hit.
            left = seconds * (1 - run.progress() / total) / (count - number + 2)
            moment = self.rng.uniform(0, start_seconds if early else 2 * left)
            if not run.kill(moment, victim=victim, since="" if early else READY):
                self.fail(f"{run.log}: the run ended before kill {number}; take another seed")
                return
            what = {"trainer": "the process", "all": "all processes"}.get(victim, f"rank {victim}")
            since = "start" if early else "first step"
            went_on = first_step(run.logs[-1]) if READY in run.logs[-1] else "-"
            say(f"| {number} | {what} | {moment:.1f} s from {since} | {run.interrupted()} | {run.progress()} | "
                f"{went_on} |")  # fmt: skip
        log = run.finish()
        say(f"\nThe last life went on from step {first_step(log)} and ended at step {run.progress()}.")
        self.compare(f"{processes} process(es), {count} kills", unbroken, run)

    def damages(self) -> None:
        """Each file of the last checkpoint truncated, then each with a bit flipped, always from the same state."""
        unbroken = TrainingRun(self.config, self.folder / "unbroken_1")
        killed = TrainingRun(self.config, self.folder / "to_damage")
        while len(killed.checkpoints()) < 4:
            killed.kill(self.rng.uniform(4, 8), victim="trainer")
        (newest, prefix, _), (before, *_) = killed.checkpoints()[:2]
        say(f"\nLast checkpoint {prefix.name} (step {newest}), the one before it of step {before}:\n\n"
            "| file | damage | named in the log | went on from step | result |\n|---|---|---|---|---|")  # fmt: skip
        for name in [*(prefix.name + suffix for suffix in (*SUFFIXES, ".json")), "run.json"]:
            for how in ("truncated", "flipped"):
                run = TrainingRun(self.config, self.folder / f"damaged_{name}_{how}")
                shutil.copytree(killed.folder, run.folder)
                place = damage(run.folder / name, how, self.rng)
                log = run.finish()
                named = any("damaged" in line and str(run.folder / name) in line for line in log.splitlines())
                # run.json says which run it is; the checkpoints can tell, too.
                if first_step(log) != (newest if name == "run.json" else before) or not named:
                    self.fail(f"{run.log}: {name} {how}, {place}")
                found = differences(unbroken, run)
                say(
                    f"| {name} | {how}, {place} | {'yes' if named else 'no'} | {first_step(log)} | "
                    f"{'different' if found else 'identical'} |"
                )
                if found:
                    self.fail(f"{run.log}: {', '.join(found[:5])} ({len(found)} in all)")
                shutil.rmtree(run.output)

    def compare(self, what: str, one: TrainingRun, other: TrainingRun) -> None:
        found = differences(one, other)
        if found:
            self.fail(f"{what}: differs from the unbroken run: {', '.join(found[:5])} ({len(found)} in all)")
        else:
            say(f"{what}: all arrays and the history of APs are identical to the unbroken run's")

    def fail(self, message: str) -> None:
        self.failures.append(message)
        say(f"FAILED: {message}")


def say(text: str) -> None:
    print(text, flush=True)


def main() -> None:
    import paddle

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20, help="of the run with one process")
    parser.add_argument("--distributed_kills", type=int, default=5, help="of the run with two processes")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6), help="default: any")
    parser.add_argument("--folder", type=Path, help="for the runs; default: a temporary one, removed after success")
    arguments = parser.parse_args()
    folder = arguments.folder or Path(tempfile.mkdtemp(prefix="soak_"))
    folder.mkdir(parents=True, exist_ok=True)
    say(f"seed {arguments.seed}, runs in {folder}, paddle {paddle.__version__}, Python {platform.python_version()}, "
        f"{time.strftime('%Y-%m-%d')}")  # fmt: skip
    start = time.monotonic()
    soak = Soak(folder, arguments.seed)
    soak.kills(arguments.kills, processes=1)
    soak.damages()
    soak.kills(arguments.distributed_kills, processes=2)
    say(f"\n{(time.monotonic() - start) / 60:.0f} minutes, {len(soak.failures)} failures")
    if soak.failures:
        sys.exit(1)
    if not arguments.folder:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
