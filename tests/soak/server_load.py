"""Good and hostile requests to a server at the same time, and the killing of its processes."""

import http.client
import itertools
import json
import os
import queue
import random
import signal
import socket
import threading
import time
from collections import Counter
from typing import Any

from processes import command_of, descendants
from serving import ServerProcess, form

from soak.hostile_requests import Attacks

ATTACKERS = 24  # threads; slow attacks take some seconds each
NEVER = float("inf")


class Load:
    """Good and hostile requests to a server, and what came of them.

    Args:
        images: image files, and the detections that the detector alone finds in each.
        hostile: share of the requests that are attacks, while `attacking` is set.
        token: what the server's clients have to send.

    Attributes:
        answers: start and end of each good request, in seconds of time.monotonic, with its repetitions; health: of each
            health check.
        lost, wrong: good requests without an answer, and with a wrong one.
        outcomes: by attack, how often each status was the answer (see hostile_requests); -1 for none within a minute.
    """

    def __init__(
        self, server: ServerProcess, images: list[tuple[bytes, Any]], hostile: float, seed: int, token: str | None
    ) -> None:
        self.server = server
        self.headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.requests = [form(data, threshold="0") for data, _ in images]
        self.expected = [found for _, found in images]
        self.attacks = Attacks(images[0][0], token)
        self.hostile = hostile
        self.seed = seed
        self.attacking = threading.Event()
        self.stopped = threading.Event()
        self.lock = threading.Lock()
        self.answers: list[tuple[float, float]] = []
        self.health: list[tuple[float, float]] = []
        self.lost: list[str] = []
        self.wrong: list[str] = []
        self.events: Counter[str] = Counter()
        self.outcomes: dict[str, Counter[int]] = {name: Counter() for name in self.attacks.all}
        names = random.Random(seed).sample(list(self.attacks.all), len(self.attacks.all))
        self.names = itertools.cycle(names)
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
                    self.due.put_nowait(next(self.names))
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
                connection.request("POST", "/predict", body, {**headers, **self.headers})
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

    @property
    def waiting(self) -> bool:
        """Whether the last killed process has no replacement yet."""
        return bool(self.kills) and self.kills[-1][1] == NEVER

    def tick(self) -> None:
        now = time.monotonic()
        if self.waiting:
            there = len(workers_of(self.server.process.pid)) >= self.workers
            if there and self.server.request("GET", "/readyz")[0] == 200:
                self.kills[-1][1] = now
        elif now >= self.next and (pids := workers_of(self.server.process.pid)):
            os.kill(self.rng.choice(pids), signal.SIGKILL)
            self.kills.append([now, NEVER])
            self.next = now + self.every
