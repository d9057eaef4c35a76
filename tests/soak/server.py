"""The server under load and under attack: keeps asking it for detections, means harm to it, and kills its processes.

    python tests/soak/server.py [--minutes 10] [--clients 32] [--hostile 0.05] [--kill_every 60] [--seed N]
                                [--model_dir DIR --image_dir DIR]

The server is the real command, `python -m ppdet.deploy.serve`, with a tiny exported model unless another one is given.
First the clients have it for themselves, for a fifth of the time; then every twentieth request is an attack
(hostile_requests.py), and every tenth of the time a worker process is killed. Attacks come from other addresses than
good ones, as far as the system has several addresses for this machine. These promises are checked:

* every good request gets the answer that the detector alone gives; one that is told to come back (503 with
  Retry-After) does so;
* an attack gets no status 500, and the server does not end;
* processes are killed, and each is replaced;
* the memory of the server and its processes is flat after the first quarter;
* good requests' p99 is at most twice that without attack, apart from requests that met the restart of a killed process.

The exit code is 1 if one is broken. The figures are in output/soak_server.json.
"""

import argparse
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:1] = [str(ROOT), str(ROOT / "tests")]
sys.path.append(str(ROOT / "benchmarks"))

from common import memory_mib
from serving import ServerProcess, export_tiny
from tqdm import tqdm

from ppdet.deploy import Detector
from ppdet.utils.disk.files import write_json
from soak.server_load import NEVER, Killer, Load, workers_of

TOKEN = "soak"
TIMES_P99 = 2.0
MEMORY_SHARE, MEMORY_MIB = 0.1, 64  # growth after the first quarter that counts as flat: of the total, or at most this
RESTART_S = 60.0  # a killed process that is not replaced after this time is missing
OVERSHOOT_S = 180.0  # how long the last answers may take


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


def run(server: ServerProcess, images: list[tuple[bytes, Any]], options: argparse.Namespace) -> dict[str, Any]:
    """Both phases; the figures, with the broken promises under "broken"."""
    load = Load(server, images, options.hostile, options.seed, TOKEN)
    calm_s, attack_s = 12 * options.minutes, 60 * options.minutes
    begin = time.monotonic()
    middle, end = begin + calm_s, begin + calm_s + attack_s
    killer = None
    memory: list[tuple[float, float]] = []
    threads = load.start(options.clients)
    with tqdm(total=round(calm_s + attack_s), unit="s", disable=not sys.stderr.isatty()) as bar:
        while server.process.poll() is None:
            now = time.monotonic()
            if now > end and not (killer and killer.waiting and now < end + RESTART_S):
                break
            if now >= middle and killer is None:
                load.attacking.set()
                killer = Killer(server, options.kill_every, random.Random(f"{options.seed} killer"))
            if killer is not None and (now < end - 1 or killer.waiting):
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
        "restart_s": [round(there - killed, 2) if there < NEVER else None for killed, there in kills],
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
    if not figures["restart_s"]:
        broken.append("no process was killed, so that nothing is known about that: choose a shorter --kill_every")
    slow = [seconds for seconds in figures["restart_s"] if seconds is None or seconds > RESTART_S]
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
    add("--kill_every", type=float, metavar="S", help="seconds between two kills (default: 6 per minute)")
    add("--seed", type=int, default=0)
    add("--model_dir", metavar="DIR", help="an exported model (default: a tiny one)")
    add("--image_dir", metavar="DIR", help="with --model_dir: its images, of which 32 are used")
    add("--backend", default="paddle", help="default: paddle")
    add("--json", default="output/soak_server.json", metavar="FILE", help="default: output/soak_server.json")
    arguments = parser.parse_args(argv)
    if (arguments.model_dir is None) != (arguments.image_dir is None):
        parser.error("--model_dir and --image_dir belong together")
    if arguments.kill_every is None:
        arguments.kill_every = 6 * arguments.minutes
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
