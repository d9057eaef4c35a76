"""Do the tests notice small mistakes? Put mistakes into a copy of the code, one at a time, and see.

    python tests/mutants/run.py [--budget 300] [--minutes 60] [--rooms data nms] [--seed 0]

The sample has as many mutants of every room; it is the same each time. Results are kept in output/mutants: a run that
was killed goes on, and what survived is tried again when its tests have changed. Ends with 1 when a survivor is not
listed with a reason in survivors.yml, when that lists one of lines that are gone, or when less than 95 % of those that
are other programs were killed.
"""

import argparse
import fcntl
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import forks
import yaml
from mutations import Mutant, Place, mutant, places
from survivors import stale

ROOT = Path(__file__).resolve().parents[2]
HERE = Path(__file__).resolve().parent
ENOUGH = 0.95
# A mutant times out after PATIENCE times its tests' usual duration plus a minute.
PATIENCE = 20


class Room:
    """Files that are mutated, and their tests, in a copy of the repository."""

    def __init__(self, name: str, content: dict, tree: Path, output: Path) -> None:
        self.name, self.tree, self.absent = name, tree, content.get("absent", {})
        self.sources, self.tests = (
            sorted({str(path.relative_to(tree)) for pattern in content[key] for path in tree.glob(pattern)})
            for key in ("sources", "tests")
        )
        self.sources = [file for file in self.sources if Path(file).name != "__init__.py"]
        self.tests = [file for file in self.tests if Path(file).name.startswith("test_")]
        helpers = sorted(str(path.relative_to(tree)) for path in (tree / "tests").glob("*.py"))
        self.tests_digest = digest(tree, [*self.tests, *helpers])
        self.record_file = output / f"{name}-{digest(tree, self.sources)[:12]}-{self.tests_digest[:12]}.json"
        self.log = output / f"{name}.log"

    def record(self) -> None:
        """Which test runs which line, from an earlier run where nothing has changed since."""
        if not self.record_file.is_file():
            say(f"{self.name}: running the tests of {len(self.sources)} files as they are")
            sources = [str(self.tree / file) for file in self.sources]
            if forks.fork(lambda: forks.record(self.tests, sources, self.record_file), 7200, self.log):
                raise SystemExit(f"error: tests of {self.name} fail without any mutant: see {self.log}")
        content = json.loads(self.record_file.read_text())
        self.seconds, self.lines = content["seconds"], content["lines"]

    def places(self) -> Iterator[Place]:
        for file in self.sources:
            yield from places(self.name, file, (self.tree / file).read_text(encoding="utf-8"), self.absent)

    def tests_of(self, place: Place) -> list[str]:
        """Tests that run the line, the quickest first; all of the room for a line that runs when it is imported."""
        contexts = self.lines.get(place.file, {}).get(str(place.number), [])
        chosen = {test for test in contexts if "::" in test}
        files = {test for test in contexts if "::" not in test}
        chosen |= {test for test in self.seconds if test.split("::")[0] in files}
        return sorted(chosen or self.seconds, key=lambda test: (self.seconds.get(test, 0.0), test))


def say(text: str) -> None:
    print(text, flush=True)


def digest(tree: Path, files: Sequence[str]) -> str:
    content = hashlib.sha256()
    for file in files:
        content.update(file.encode() + b"\0" + (tree / file).read_bytes() + b"\0")
    return content.hexdigest()


def copy_tree(tree: Path) -> None:
    """A copy of the repository without ignored files."""
    shutil.rmtree(tree, ignore_errors=True)
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout.decode().split("\0"):
        if name and (ROOT / name).is_file():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, tree / name)


class Results:
    """Outcomes by mutant, one line of JSON each, written as they come."""

    def __init__(self, path: Path) -> None:
        self.path, self.known = path, {}
        if path.is_file():
            for line in path.read_text().splitlines():
                try:
                    entry = json.loads(line)
                except ValueError:  # of a run that was killed while it wrote
                    continue
                self.known[entry["key"]] = entry

    @staticmethod
    def key(one: Mutant) -> str:
        return hashlib.sha256(one.code.encode()).hexdigest()

    def find(self, one: Mutant, tests_digest: str) -> str:
        """An outcome that still holds, or empty. What tests have killed once, later tests are trusted to kill."""
        entry = self.known.get(self.key(one), {})
        return entry["outcome"] if entry and (entry["outcome"] != "survived" or entry["tests"] == tests_digest) else ""

    def add(self, one: Mutant, outcome: str, tests_digest: str) -> None:
        entry = {"key": self.key(one), "name": one.name, "outcome": outcome, "tests": tests_digest}
        self.known[entry["key"]] = entry
        with open(self.path, "a") as stream:
            stream.write(json.dumps(entry) + "\n")


def sample(room: Room, seed: int) -> Iterator[Mutant]:
    """Mutants of a room in the order of the sample."""
    sources = {file: (room.tree / file).read_text(encoding="utf-8") for file in room.sources}
    for place in sorted(room.places(), key=lambda place: place.rank(seed)):
        one = mutant(place, sources[place.file])
        if one is not None:
            yield one


def try_one(one: Mutant, room: Room) -> str:
    path = room.tree / one.place.file
    original = path.read_text(encoding="utf-8")
    tests = room.tests_of(one.place)
    limit = 60 + PATIENCE * sum(room.seconds.get(test, 1.0) for test in tests)
    path.write_text(one.code, encoding="utf-8")
    try:
        return forks.judge(tests, limit, room.log)
    finally:
        path.write_text(original, encoding="utf-8")


def summarize(outcomes: dict[str, dict[str, str]], reasons: dict[str, dict]) -> bool:
    """Print a table; True where all survivors have a reason and enough mutants are killed."""
    say(f"\n{'room':<12} {'mutants':>7} {'killed':>7} {'survived':>8} {'equivalent':>10} {'share':>6}")
    total = killed_in_all = 0
    unexplained = []
    for room, results in outcomes.items():
        survivors = [name for name, outcome in results.items() if outcome == "survived"]
        equivalent = sum(bool(reasons.get(name, {}).get("equivalent")) for name in survivors)
        counted, killed = len(results) - equivalent, len(results) - len(survivors)
        unexplained += [name for name in survivors if not reasons.get(name, {}).get("reason")]
        total, killed_in_all = total + counted, killed_in_all + killed
        share = f"{killed / counted:.1%}" if counted else "-"
        say(f"{room:<12} {len(results):>7} {killed:>7} {len(survivors):>8} {equivalent:>10} {share:>6}")
    share = killed_in_all / total if total else 0.0
    say(f"{killed_in_all} of {total} mutants that are other programs were killed: {share:.1%}; {ENOUGH:.0%} are wanted")
    for name in unexplained:
        say(f"survived without a reason in {HERE.name}/survivors.yml: {name}")
    return not unexplained and share >= ENOUGH


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    contents = yaml.safe_load((HERE / "rooms.yml").read_text())
    parser.add_argument("--budget", type=int, default=300, help="mutants of all rooms together")
    parser.add_argument("--minutes", type=float, default=60, help="begin no further mutant after so long")
    parser.add_argument("--rooms", nargs="*", default=list(contents), choices=list(contents), metavar="ROOM")
    parser.add_argument("--seed", type=int, default=0, help="of another sample")
    parser.add_argument("--output", type=Path, default=ROOT / "output" / "mutants")
    arguments = parser.parse_args()
    output = arguments.output.resolve()
    output.mkdir(parents=True, exist_ok=True)
    lock = os.open(output / "lock", os.O_CREAT | os.O_WRONLY)  # held until the end
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise SystemExit(f"error: {output}: another run writes there: wait for it, or name another --output") from None
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    tree = output / "tree"
    copy_tree(tree)
    forks.prepare(tree)
    end = time.monotonic() + 60 * arguments.minutes
    results = Results(output / "results.jsonl")
    rooms = [Room(name, contents[name], tree, output) for name in arguments.rooms]
    outcomes: dict[str, dict[str, str]] = {room.name: {} for room in rooms}
    samples = {room.name: sample(room, arguments.seed) for room in rooms}
    for turn in range(-(-arguments.budget // len(rooms))):
        for room in rooms:
            one = next(samples[room.name], None)
            if one is None or time.monotonic() > end:
                continue
            outcome = results.find(one, room.tests_digest)
            if not outcome:
                if turn == 0 or not hasattr(room, "seconds"):
                    room.record()
                outcome = try_one(one, room)
                results.add(one, outcome, room.tests_digest)
                say(f"{outcome:<9} {one.name}")
            outcomes[room.name][one.name] = outcome
    listed = yaml.safe_load((HERE / "survivors.yml").read_text()) or []
    good = summarize(outcomes, {entry["mutant"]: entry for entry in listed})
    for name in stale([entry["mutant"] for entry in listed], tree):
        good = False
        say(f"{HERE.name}/survivors.yml lists a mutant of lines that are gone: {name}")
    say(f"all results: {results.path}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
