"""The server under load and under attack: keeps asking it for detections, means harm to it, and kills its processes.

    python tests/soak/server.py [--minutes 10] [--clients 32] [--hostile 0.05] [--kill_every 60] [--seed N]
                                [--model_dir DIR --image_dir DIR]

The server is the real command, `python -m ppdet.deploy.serve`, with a tiny exported model unless another one is given.
First the clients have it for themselves, for a fifth of the time; then every twentieth request is an attack
(tests/hostile_requests.py), and a worker process is killed every minute. Attacks come from other addresses than good
requests, as far as the system has several addresses for this machine. These promises are checked:

* every good request gets the answer that the detector alone gives; one that is told to come back (503 with
  Retry-After) does so;
* an attack gets no status 500, and the server does not end;
* the memory of the server and its processes is flat after the first quarter;
* good requests' p99 is at most twice that without attack, apart from requests that met the restart of a killed process.

The exit code is 1 if one is broken. The figures are in output/soak_server.json.
"""

import argparse
import http.client
import json
import os
import queue
import random
import signal
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from hostile_requests import Attacks
from processes import command_of, descendants
from serving import ServerProcess, export_tiny, form
from tqdm import tqdm

from ppdet.deploy import Detector
from ppdet.utils.disk.files import write_json

TOKEN = "soak"
ATTACKERS = 24  # threads; slow attacks take some seconds each
TIMES_P99 = 2.0
MEMORY_SHARE, MEMORY_MIB = 0.1, 64  # growth after the first quarter that counts as flat: of the total, or at most this
RESTART_S = 60.0  # a killed process that is not replaced after this time is missing
OVERSHOOT_S = 180.0  # how long the last answers may take


class Load:
    """Good and hostile requests to a server, and what came of them.

    Args:
        images: image files, and the detections that the detector alone finds in each.
        hostile: share of the requests that are attacks, while `attacking` is set.
    """

    def __init__(self, server: ServerProcess, images: list[tuple[bytes, Any]], hostile: float, seed: int) -> None:
        self.server = server
        self.requests = [form(data, threshold="0") for data, _ in images]
        self.expected = [found for _, found in images]
        self.attacks = Attacks(images[0][0], TOKEN)
        self.hostile = hostile
        self.seed = seed
        self.attacking = threading.Event()
        self.stopped = threading.Event()
        self.lock = threading.Lock()
        self.answers: list[tuple[float, float]] = []  # start and end of each good request, retries included
        self.health: list[tuple[float, float]] = []
        self.lost: list[str] = []
        self.wrong: list[str] = []
        self.events: Counter[str] = Counter()
        self.outcomes: dict[str, Counter[int]] = {name: Counter() for name in self.attacks.all}
        self.due: queue.Queue[str] = queue.Queue(ATTACKERS)

    def start(self, clients: int) -> list[threading.Thread]:
        targets = [(self.client, i) for i in range(clients)] + [(self.attacker, i) for i in range(ATTACKERS)]
        threads = [threading.Thread(target=work, args=(i,), daemon=True) for work, i in [*targets, (self.watch, 0)]]
        for thread in threads:
            thread.start()
        return threads

    def count(self, what: str) -> None:
        with self.lock:
            self.events[what] += 1

    def client(self, number: int) -> None:
        """Send one good request after the other over an open connection."""
        rng = random.Random(f"{self.seed} client {number}")
        connection = self.server.connect()
        while not self.stopped.is_set():
            if self.attacking.is_set() and rng.random() < self.hostile / (1 - self.hostile):
                try:
                    self.due.put_nowait(rng.choice(list(self.attacks.all)))
                except queue.Full:
                    self.count("attacks that found no attacker free")
            which = rng.randrange(len(self.requests))
            start = time.monotonic()
            status, content = self.ask(connection, which)
            if status == 200:
                self.answers.append((start, time.monotonic()))
                problem = difference(json.loads(content), self.expected[which])
                if problem:
                    self.wrong.append(problem)
            else:
                self.lost.append(f"{status} {content[:200]!r}")
                connection.close()
        connection.close()

    def ask(self, connection: http.client.HTTPConnection, which: int) -> tuple[int, bytes]:
        """Status and content of the answer to a good request; what the server refuses for now is sent again."""
        body, headers = self.requests[which]
        fresh = connection.sock is None
        while True:
            try:
                connection.request("POST", "/predict", body, {**headers, "Authorization": f"Bearer {TOKEN}"})
                response = connection.getresponse()
                content = response.read()
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                if not fresh and isinstance(error, (http.client.RemoteDisconnected, BrokenPipeError)):
                    self.count("idle connections that the server had closed")  # it has not accepted the request
                    fresh = True
                    continue
                return 0, repr(error).encode()
            again = response.getheader("Retry-After")
            if response.status != 503 or again is None:
                return response.status, content
            self.count("good requests told to come back")
            time.sleep(float(again))

    def attacker(self, number: int) -> None:
        rng = random.Random(f"{self.seed} attacker {number}")
        while not self.stopped.is_set():
            try:
                name = self.due.get(timeout=0.2)
            except queue.Empty:
                continue
            try:
                with self.attack_socket(rng) as to:
                    status = self.attacks.all[name](to, rng)
            except ConnectionError:
                status = 0
            except TimeoutError:
                status = -1
            with self.lock:
                self.outcomes[name][status] += 1

    def attack_socket(self, rng: random.Random) -> socket.socket:
        """A connection from one of the other addresses of this machine, 127.0.0.2 to .9, where there are such."""
        for source in (f"127.0.0.{rng.randrange(2, 10)}", ""):
            try:
                return socket.create_connection(self.server.address, 60, (source, 0))
            except ConnectionError:
                raise
            except OSError:  # only 127.0.0.1 exists
                continue
        raise ConnectionError

    def watch(self, number: int) -> None:
        """Ask whether the server is alive, ten times per second."""
        while not self.stopped.is_set():
            start = time.monotonic()
            try:
                alive = self.server.request("GET", "/healthz")[0] == 200
            except (OSError, http.client.HTTPException):
                alive = False
            self.health.append((start, time.monotonic()))
            if not alive:
                self.count("health checks without an answer")
            time.sleep(0.1)


def difference(answer: dict, expected: Any) -> str:
    """What is wrong with an answer; "" if it says what the detector says."""
    found = answer["detections"]
    if len(found) != len(expected.scores):
        return f"{len(found)} detections, expected {len(expected.scores)}"
    left = list(zip(expected.classes.tolist(), expected.scores.tolist(), expected.boxes.tolist()))
    for one in found:
        for other in left:
            near = one["class"] == other[0] and abs(one["score"] - other[1]) < 2e-3
            if near and max(abs(a - b) for a, b in zip(one["box"], other[2])) < 0.5:
                left.remove(other)
                break
        else:
            return f"a detection that the detector does not have: {one}"
    return ""


def workers_of(pid: int) -> list[int]:
    """The processes that work for the server: the children that multiprocessing has started."""
    return [child for child in descendants(pid) if "spawn_main" in command_of(child)]


def memory_mib(pids: list[int]) -> float:
    """Memory of processes; what several of them share counts once."""
    total = 0
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:  # it has just ended
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1024


def percentiles(spans: list[tuple[float, float]], begin: float, end: float, without: list = ()) -> dict[str, float]:
    """Milliseconds of what began in a time, except for what overlaps one of the spans `without`."""
    chosen = [
        1e3 * (b - a)
        for a, b in spans
        if begin <= a < end and not any(a < stop and b > start for start, stop in without)
    ]
    if len(chosen) < 2:
        return {"count": len(chosen)}
    cuts = statistics.quantiles(chosen, n=1000, method="inclusive")
    figures = {"p50": cuts[499], "p90": cuts[899], "p99": cuts[989], "p99.9": cuts[998], "most": max(chosen)}
    return {"count": len(chosen), **{name: round(value, 1) for name, value in figures.items()}}


class Killer:
    """Kills a worker process now and then, and notes when another one had taken its place.

    Attributes:
        kills: for each kill, [time, time of the replacement], in seconds of time.monotonic.
    """

    def __init__(self, server: ServerProcess, every: float, rng: random.Random) -> None:
        self.server = server
        self.every = every
        self.rng = rng
        self.next = time.monotonic() + every
        self.workers = len(workers_of(server.process.pid))
        self.kills: list[list[float]] = []

    def tick(self) -> None:
        now = time.monotonic()
        if self.kills and self.kills[-1][1] == float("inf"):
            there = len(workers_of(self.server.process.pid)) >= self.workers
            if there and self.server.request("GET", "/readyz")[0] == 200:
                self.kills[-1][1] = now
        elif now >= self.next and (pids := workers_of(self.server.process.pid)):
            os.kill(self.rng.choice(pids), signal.SIGKILL)
            self.kills.append([now, float("inf")])
            self.next = now + self.every


def run(server: ServerProcess, images: list[tuple[bytes, Any]], options: argparse.Namespace) -> dict[str, Any]:
    """Both phases; the figures, with the broken promises under "broken"."""
    load = Load(server, images, options.hostile, options.seed)
    calm_s, attack_s = 12 * options.minutes, 60 * options.minutes
    begin = time.monotonic()
    middle, end = begin + calm_s, begin + calm_s + attack_s
    killer = None
    memory: list[tuple[float, float]] = []
    threads = load.start(options.clients)
    with tqdm(total=round(calm_s + attack_s), unit="s", disable=not sys.stderr.isatty()) as bar:
        while (now := time.monotonic()) < end and server.process.poll() is None:
            if now >= middle and killer is None:
                load.attacking.set()
                killer = Killer(server, options.kill_every, random.Random(f"{options.seed} killer"))
            if killer is not None:
                killer.tick()
            pid = server.process.pid
            if not memory or now - memory[-1][0] > min(5.0, options.minutes):
                memory.append((now, memory_mib([pid, *workers_of(pid)])))
            bar.update(round(now - begin) - bar.n)
            bar.set_postfix_str(
                f"{len(load.answers)} answers, {len(load.lost)} lost, {len(killer.kills) if killer else 0} kills"
            )
            time.sleep(0.1)
        load.stopped.set()
    for thread in threads:
        thread.join(max(0.0, end + OVERSHOOT_S - time.monotonic()))
    hanging = sum(thread.is_alive() for thread in threads)
    kills = killer.kills if killer else []
    figures = {
        "minutes": options.minutes, "clients": options.clients, "seed": options.seed,
        "good": len(load.answers), "lost": load.lost[:20], "wrong": load.wrong[:20], "events": dict(load.events),
        "hostile": {name: dict(found) for name, found in load.outcomes.items()},
        "calm_ms": percentiles(load.answers, begin, middle),
        "attacked_ms": percentiles(load.answers, middle, end),
        "attacked_apart_from_restarts_ms": percentiles(load.answers, middle, end, kills),
        "health_calm_ms": percentiles(load.health, begin, middle),
        "health_attacked_ms": percentiles(load.health, middle, end),
        "restart_s": [round(there - killed, 2) for killed, there in kills],
        "memory_mib_by_minute": by_minute(memory, middle),
        "growth_mib": growth([value for at, value in memory if at > middle + attack_s / 4]),
    }  # fmt: skip
    figures["broken"] = broken_promises(figures, hanging, server.process.poll())
    return figures


def by_minute(memory: list[tuple[float, float]], start: float) -> list[float]:
    """The median of each minute from `start` on."""
    minutes: dict[int, list[float]] = {}
    for at, value in memory:
        if at >= start:
            minutes.setdefault(int((at - start) // 60), []).append(value)
    return [round(statistics.median(values), 1) for values in minutes.values()]


def growth(values: list[float]) -> float:
    """How much a straight line through the values rises from the first to the last."""
    if len(values) < 3:
        return 0.0
    slope, _ = statistics.linear_regression(range(len(values)), values)
    return round(slope * (len(values) - 1), 1)


def broken_promises(figures: dict[str, Any], hanging: int, code: int | None) -> list[str]:
    broken = []
    if figures["lost"] or figures["wrong"]:
        broken.append(f"good requests without the right answer: {[*figures['lost'], *figures['wrong']][:3]}")
    if not figures["good"]:
        broken.append("no good request was answered")
    failed = [name for name, found in figures["hostile"].items() if found.get(500) or found.get(-1)]
    if failed:
        broken.append(f"attacks with status 500, or without an end: {', '.join(failed)}")
    if code is not None or hanging:
        broken.append(f"the server ended with {code}" if code is not None else f"{hanging} clients hang")
    slow = [seconds for seconds in figures["restart_s"] if seconds > RESTART_S]
    if slow:
        broken.append(f"killed processes were not replaced within {RESTART_S:g} s: {slow}")
    memory = figures["memory_mib_by_minute"]
    if memory and figures["growth_mib"] > max(MEMORY_MIB, MEMORY_SHARE * memory[0]):
        broken.append(f"the memory grew by {figures['growth_mib']} MiB")
    calm, attacked = figures["calm_ms"].get("p99"), figures["attacked_apart_from_restarts_ms"].get("p99")
    if calm and attacked and attacked > TIMES_P99 * calm:
        broken.append(f"p99 of good requests: {attacked} ms under attack, {calm} ms without")
    return broken


def report(figures: dict[str, Any]) -> None:
    """Print tables for docs/RELIABILITY.md."""
    hostile = sum(sum(found.values()) for found in figures["hostile"].values())
    lost, wrong = len(figures["lost"]), len(figures["wrong"])
    print(f"\n{figures['good']} good requests, {lost} lost, {wrong} with a wrong answer; {hostile} attacks")
    print("; ".join(f"{count} {what}" for what, count in figures["events"].items()))
    print("\n| ms | requests | p50 | p90 | p99 | p99.9 | most |\n|---|---|---|---|---|---|---|")
    titles = {
        "calm_ms": "good requests without attack", "attacked_ms": "under attack",
        "attacked_apart_from_restarts_ms": "under attack, apart from restarts",
        "health_calm_ms": "/healthz without attack", "health_attacked_ms": "/healthz under attack",
    }  # fmt: skip
    for key, title in titles.items():
        print("| " + " | ".join([title, *(f"{value:g}" for value in figures[key].values())]) + " |")
    print(f"\nrestarts of killed processes, seconds: {figures['restart_s']}")
    print(f"memory by minute, MiB: {figures['memory_mib_by_minute']}; after the first quarter it rose by "
          f"{figures['growth_mib']}")  # fmt: skip
    print("\n| attack | answers: status (0: connection closed) x times |\n|---|---|")
    for name, found in figures["hostile"].items():
        print(f"| {name.replace('_', ' ')} | {', '.join(f'{status} x {n}' for status, n in sorted(found.items()))} |")
    print("\n" + ("\n".join(f"BROKEN: {line}" for line in figures["broken"]) or "all promises were kept"))


def parse_arguments(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--minutes", type=float, default=10, help="of attack, after a fifth of it without (default: 10)")
    add("--clients", type=int, default=32, help="default: 32")
    add("--hostile", type=float, default=0.05, help="share of requests that are attacks (default: 0.05)")
    add("--kill_every", type=float, default=60, metavar="S", help="seconds between two kills (default: 60)")
    add("--seed", type=int, default=0)
    add("--model_dir", metavar="DIR", help="an exported model (default: a tiny one)")
    add("--image_dir", metavar="DIR", help="with --model_dir: its images, of which 32 are used")
    add("--backend", default="paddle", help="default: paddle")
    add("--json", default="output/soak_server.json", metavar="FILE", help="default: output/soak_server.json")
    arguments = parser.parse_args(argv)
    if (arguments.model_dir is None) != (arguments.image_dir is None):
        parser.error("--model_dir and --image_dir belong together")
    return arguments


def main(argv: list[str] | None = None) -> int:
    options = parse_arguments(argv)
    with tempfile.TemporaryDirectory(prefix="soak_server_") as folder:
        model = Path(options.model_dir) if options.model_dir else export_tiny(Path(folder))
        image_dir = Path(options.image_dir) if options.image_dir else model.parents[1] / "data" / "images"
        files = [path.read_bytes() for path in sorted(image_dir.iterdir())[:32] if path.is_file()]
        detector = Detector(str(model), options.backend, threads=1)
        images = [(data, detector.predict(data)) for data in files]
        command = ("--backend", options.backend, "--timeout_s", "30", "--max_queue", str(2 * options.clients))
        with ServerProcess(model, Path(folder) / "server.log", *command, token=TOKEN) as server:
            figures = run(server, images, options)
            if server.process.poll() is None and (code := server.terminate()) != 0:
                figures["broken"].append(f"asked to end, the server ended with {code}")
            log = server.log.read_text()
        figures["log_tracebacks"] = log.count("Traceback")
        Path(options.json).parent.mkdir(parents=True, exist_ok=True)
        Path(options.json).with_suffix(".log").write_text(log)
    write_json(options.json, figures)
    report(figures)
    return 1 if figures["broken"] else 0


if __name__ == "__main__":
    sys.exit(main())
