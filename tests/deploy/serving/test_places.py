"""Who holds a place for a request, and who loses it; and answers that are not read, with a real model."""

import asyncio
from contextlib import ExitStack

import pytest
from patience import PATIENCE, wait_until
from serving import form

from ppdet.deploy.serving import app, places
from ppdet.deploy.serving.app import create_app
from ppdet.deploy.serving.limits import CROWDED_SPEED, Refused
from ppdet.deploy.serving.places import Places


@pytest.fixture
def clock(monkeypatch):
    """Seconds, which a test changes."""
    seconds = [100.0]
    monkeypatch.setattr(places.time, "monotonic", lambda: seconds[0])
    return seconds


def test_the_slowest_client_loses_its_place_when_all_are_taken(clock):
    all_places, lost = Places(), []
    with ExitStack() as stack:
        held = [stack.enter_context(all_places.hold(address, most=4)) for address in "abcd"]
        for name, place in zip("abcd", held):
            place.give_up = lambda name=name: lost.append(name)
        held[0].due = None  # this client waits for the server
        with pytest.raises(Refused, match="4 requests are waiting already"), all_places.hold("e", most=4):
            raise AssertionError("all clients have just begun")
        clock[0] += 2.0
        for place, seconds in zip(held[1:], (2, 0.5, 0.25)):
            place.move(int(seconds * CROWDED_SPEED))
        for _ in range(2):
            place = stack.enter_context(all_places.hold("e", most=4))
            place.due = None
        assert lost == ["d", "c"] and held[2].lost and not held[1].lost
        with pytest.raises(Refused, match="waiting already"), all_places.hold("f", most=4):
            raise AssertionError("no client is slow")
        held[1].move(10**9)  # however fast it was before, it may not stop for ever
        clock[0] += places.CREDIT_S + 1
        stack.enter_context(all_places.hold("f", most=4))
        assert lost == ["d", "c", "b"]
    assert not all_places.held


def test_an_address_with_most_places_gives_way_at_once(clock):
    all_places = Places()
    with ExitStack() as stack:
        held = [stack.enter_context(all_places.hold("a", most=2)) for _ in range(2)]
        clock[0] += 0.01
        with pytest.raises(Refused), all_places.hold("a", most=2):
            raise AssertionError("no other address asks")
        stack.enter_context(all_places.hold("b", most=2))
        assert [place.lost for place in held] == [True, False]


def test_answers_that_wait_for_clients_have_a_limit_in_all(clock, monkeypatch):
    monkeypatch.setattr(places, "MOST_UNSENT", 1000)
    all_places, lost = Places(), []
    with ExitStack() as stack:
        for number in range(3):
            place = stack.enter_context(all_places.hold("a", most=9))
            all_places.start_sending(place, 500, lambda number=number: lost.append(number))
            clock[0] += 1.0
    assert lost == [0]


class Reader:
    """A client that sends a request and takes no further part of its answer until it is allowed to."""

    def __init__(self, client, body, headers, query=b"", more_body=False):
        self.sent, self.messages = [], [{"type": "http.request", "body": body, "more_body": more_body}]
        self.allowed, self.aborted = asyncio.Event(), []
        scope = {"type": "http", "method": "POST", "path": "/predict", "query_string": query, "client": ("9.9.9.9", 9)}
        scope["headers"] = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
        scope["state"] = {"abort": self.abort}
        self.answer = client.start(create_app(client.service)(scope, self.receive, self.send))

    async def receive(self):
        while not self.messages:
            await asyncio.sleep(0.01)
        return self.messages.pop(0)

    async def send(self, message):
        self.sent.append(message)
        if len(self.sent) > 2:
            await self.allowed.wait()

    def abort(self, reason):
        self.aborted.append(reason)
        self.allowed.set()

    def body(self):
        return b"".join(message["body"] for message in self.sent[1:])


def test_a_place_is_held_until_the_answer_is_taken(client, images, monkeypatch):
    """So the memory for answers that nobody reads is bounded; and a further request does not wait for such clients."""
    monkeypatch.setattr(app, "PART", 1000)
    body, headers = form(images[0])
    with client.settings(max_queue=1):
        reader = Reader(client, body, headers, b"format=png")
        wait_until(lambda: len(reader.sent) == 3)
        assert client.service.admitted == 1
        client.service.places.held[0].due += PATIENCE  # as a client that is fast
        assert client.post("/predict", files={"image": images[0]}).status_code == 503
        client.loop.call_soon_threadsafe(reader.allowed.set)
        reader.answer.result(PATIENCE)
        assert client.service.admitted == 0 and reader.body().startswith(b"\x89PNG") and len(reader.sent) > 4
        sizes = [len(message["body"]) for message in reader.sent[1:]]
        assert set(sizes[:-1]) == {1000} and not reader.sent[-1]["more_body"]

        reader = Reader(client, body, headers, b"format=png")
        wait_until(lambda: len(reader.sent) == 3)
        client.service.places.held[0].due -= 60
        assert client.post("/predict", files={"image": images[0]}).status_code == 200
        reader.answer.result(PATIENCE)
        assert reader.aborted == ["the client takes its answer slowly, and others wait for its place"]
        assert client.service.admitted == 0


def test_half_a_body_loses_its_place_to_a_further_request(client, images):
    body, headers = form(images[0])
    with client.settings(max_queue=1):
        slow = Reader(client, body[:100], headers, more_body=True)
        wait_until(lambda: client.service.admitted == 1)
        client.service.places.held[0].due -= 60
        assert client.post("/predict", files={"image": images[0]}).status_code == 200
        slow.answer.result(PATIENCE)
    assert slow.sent[0]["status"] == 408 and b"others wait" in slow.body() and client.service.admitted == 0


def test_what_waits_for_a_process_is_forgotten_with_its_client(client, images):
    """A request that waits for room among the prepared images does not stay there when its client has left."""
    service = client.service

    async def leave():
        for _ in range(16):
            await service.room._free.acquire()
        task = asyncio.ensure_future(service.detect(images[0]))
        await asyncio.sleep(0)
        before = len(service.room._free._waiters)
        task.cancel()
        await asyncio.wait([task])
        for _ in range(16):
            service.room._free.release()
        return before, [waiter for waiter in service.room._free._waiters or [] if not waiter.done()]

    assert client.run(leave()) == (1, [])
    assert client.post("/predict", files={"image": images[0]}).status_code == 200
