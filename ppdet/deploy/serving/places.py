"""The places for requests: who holds one, and who loses it to a further request when all are taken."""

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ppdet.deploy.serving.limits import CROWDED_SPEED, too_busy

# While all places are taken, a client that is this many seconds behind CROWDED_SPEED, with what it sends or takes,
# loses its place to a further request. If its address has more than half of all places, all waiting for their clients,
# it loses its place to a request from another address without these seconds.
PATIENCE_S = 0.25
CREDIT_S = 2.0  # so long a client may stop that was faster before; what the system buffers counts as taken
# Most bytes of answers that wait for clients. Beyond them, the answer whose client is furthest behind is given up.
MOST_UNSENT = 512 * 2**20


class Place:
    """The place of one request.

    Attributes:
        address: the client's.
        due: when a client of CROWDED_SPEED would have sent or taken as much as this one, at most CREDIT_S after this
            one did; None while the client waits for the server.
        unsent: bytes of the answer that the client has not taken.
        give_up: what is called when the place is taken away.
        lost: the place was taken away.
    """

    def __init__(self, address: str, give_up: Callable[[], object]) -> None:
        self.address = address
        self.give_up = give_up
        self.due: float | None = time.monotonic()
        self.unsent = 0
        self.lost = False

    @property
    def behind_s(self) -> float:
        """How many seconds the client is behind CROWDED_SPEED; negative if it is faster."""
        return 0.0 if self.due is None else time.monotonic() - self.due

    def move(self, size: int) -> None:
        """The client has sent or taken so many bytes."""
        if self.due is not None:
            self.due = min(self.due + size / CROWDED_SPEED, time.monotonic() + CREDIT_S)


class Places:
    """All places."""

    def __init__(self) -> None:
        self.held: list[Place] = []

    @contextmanager
    def hold(self, address: str, most: int) -> Iterator[Place]:
        """Hold one of `most` places for a request that is going to be read; set its `give_up` at once.

        Raises:
            Refused: all places are in use, and the server waits for none of their clients.
        """
        if len(self.held) >= most and not self._make_room(address, most):
            raise too_busy(f"{len(self.held)} requests are waiting already")
        place = Place(address, lambda: None)
        self.held.append(place)
        try:
            yield place
        finally:
            if not place.lost:
                self.held.remove(place)

    def start_sending(self, place: Place, size: int, give_up: Callable[[], object]) -> None:
        """The client of `place` is to take an answer of `size` bytes; give up other answers if there are too many."""
        place.due, place.unsent, place.give_up = time.monotonic(), size, give_up
        while sum(one.unsent for one in self.held) > MOST_UNSENT:
            slow = [one for one in self.held if one.unsent and one is not place and one.behind_s > 0]
            if not slow:
                return
            self._take_away(slow)

    def _make_room(self, address: str, most: int) -> bool:
        waiting = [place for place in self.held if place.due is not None]
        counts = Counter(place.address for place in waiting)

        def patience_s(place: Place) -> float:
            return 0.0 if counts[place.address] > most / 2 and place.address != address else PATIENCE_S

        slow = [place for place in waiting if place.behind_s > patience_s(place)]
        if slow:
            self._take_away(slow)
        return bool(slow)

    def _take_away(self, places: list[Place]) -> None:
        """Take the place of the client that is furthest behind."""
        place = max(places, key=lambda one: one.behind_s)
        place.lost = True
        self.held.remove(place)
        place.give_up()
