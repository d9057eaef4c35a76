"""Replicas on Ray: what is asked of Ray Serve, and the same answers from replicas where it is installed."""

import asyncio
import importlib.util
import json
import os
import pickle
import signal
import socket
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
from patience import PATIENCE, wait_until
from serving import ServerProcess, form

from ppdet.core.extensions import imported
from ppdet.deploy import Detector, serve
from ppdet.deploy.serving import replicas
from ppdet.deploy.serving.gate import Gate
from ppdet.deploy.serving.jobs import ServedModel
from ppdet.deploy.serving.limits import Settings
from ppdet.deploy.serving.replicas import Replica, Replicas, serve_on_ray
from ppdet.deploy.slicing import Slicing
from ppdet.utils.errors import DeployError

HAS_RAY_SERVE = all(map(importlib.util.find_spec, ("ray", "grpc", "aiohttp")))


class FakeRay:
    """Stands for the modules ray and ray.serve; `told` has the names of what was called, in order."""

    def __init__(self, monkeypatch, *, cpus=4, gpus=0, failure=None):
        self.told, self.failure = [], failure
        self.listening = threading.Event()
        self.ray = SimpleNamespace(
            is_initialized=lambda: False,
            init=lambda **options: self.tell("init", options),
            shutdown=lambda: self.tell("disconnect"),
            cluster_resources=lambda: {"CPU": float(cpus), "GPU": float(gpus)} if gpus else {"CPU": float(cpus)},
        )
        self.ray.serve = SimpleNamespace(
            start=lambda **options: self.tell("start", options),
            ingress=lambda: lambda kind: kind,
            deployment=lambda kind, **options: SimpleNamespace(bind=lambda *given: (kind, options, given)),
            run=self.run,
            shutdown=lambda: self.tell("shutdown"),
            delete=lambda name: self.tell(f"delete {name}"),
        )
        monkeypatch.setitem(sys.modules, "ray", self.ray)
        monkeypatch.setitem(sys.modules, "ray.serve", self.ray.serve)

    def tell(self, name, *given):
        self.told.append((name, *given))

    def run(self, application, name):
        self.tell("run", name, *application)
        if self.failure is not None:
            raise self.failure
        threading.Thread(target=self.end).start()

    def end(self):
        wait_until(lambda: signal.getsignal(signal.SIGINT) is not self.handlers[signal.SIGINT])
        os.kill(os.getpid(), signal.SIGTERM)

    def __enter__(self):
        self.handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *_):
        assert self.handlers == {number: signal.getsignal(number) for number in self.handlers}

    def names(self):
        return [name for name, *_ in self.told]


def test_what_is_asked_of_ray(served, monkeypatch):
    model, settings = ServedModel(served, threads=2), Settings(max_queue=8, timeout_s=7.0, max_pixels=10**6)
    with FakeRay(monkeypatch) as fake:
        serve_on_ray(model, settings, Replicas(2, port=0))
    assert fake.names() == ["init", "start", "run", "shutdown", "disconnect"]
    init, start, (_, name, kind, options, given), *_ = fake.told
    assert init[1]["address"] == "local" and init[1]["num_cpus"] >= 4
    assert start[1]["http_options"]["host"] == "127.0.0.1" and start[1]["http_options"]["port"] > 0
    assert (name, kind, given) == ("ppdet", Replica, (model._replace(folder=served.resolve()), settings, imported()))
    assert pickle.loads(pickle.dumps(given)) == given
    assert options["num_replicas"] == 2 and options["ray_actor_options"] == {"num_cpus": 2, "num_gpus": 0}
    # Those that a replica refuses reach it, and it has the time to answer those that it has.
    assert options["max_ongoing_requests"] > settings.max_queue and options["graceful_shutdown_timeout_s"] > 7.0


def test_a_cluster_keeps_its_other_applications(served, monkeypatch):
    with FakeRay(monkeypatch, gpus=1) as fake:
        serve_on_ray(ServedModel(served, device="gpu"), Settings(), Replicas(port=0, address="auto"))
    assert fake.names() == ["init", "start", "run", "delete ppdet", "disconnect"]
    assert fake.told[0][1]["address"] == "auto" and "num_cpus" not in fake.told[0][1]
    assert fake.told[2][3]["ray_actor_options"]["num_gpus"] == 1


def test_what_cannot_be_is_one_line(served, tmp_path, monkeypatch):
    trouble = RuntimeError(
        "Deploying application ppdet failed: x\n  File y\nppdet.utils.errors.DeployError: no engine\n"
    )
    for model, given, options, message, told in (
        (ServedModel(served, threads=3), Replicas(2, port=0), {}, "--replicas 2 needs 6 processors, but Ray has 4", []),
        (ServedModel(served, device="gpu"), Replicas(port=0), {}, "--replicas 1 needs 1 GPUs, but Ray has 0", []),
        (ServedModel(tmp_path), Replicas(), {}, "infer_cfg.yml: no such file", None),
        (
            ServedModel(served),
            Replicas(port=0),
            {"failure": trouble},
            "Ray Serve cannot start the replicas: no engine",
            ["start", "run", "shutdown"],
        ),
    ):
        with FakeRay(monkeypatch, **options) as fake, pytest.raises(DeployError) as error:
            serve_on_ray(model, Settings(), given)
        assert message in str(error.value) and "\n" not in str(error.value)
        assert fake.names() == ([] if told is None else ["init", *told, "disconnect"])
    with socket.create_server(("127.0.0.1", 0)) as taken, FakeRay(monkeypatch) as fake:
        port = taken.getsockname()[1]
        with pytest.raises(DeployError, match=f"cannot listen on 127.0.0.1, port {port}"):
            serve_on_ray(ServedModel(served), Settings(), Replicas(port=port))
        assert fake.told == []


def test_ray_serve_that_is_not_installed_is_named(served, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray.serve", None)
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace())
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    with pytest.raises(DeployError) as error:
        serve.serve(serve.parse_arguments(["--model_dir", str(served), "--ray"]))
    assert str(error.value) == "ray[serve] is not installed: pip install 'ray[serve]'"


def test_options(served, monkeypatch):
    asked = []
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(replicas, "serve_on_ray", lambda *given: asked.append(given))
    given = ["--model_dir", str(served), "--ray"]
    options = ["--replicas", "3", "--ray_address", "auto", "--port", "81", "--max_queue", "9", "--slice_infer"]
    serve.serve(serve.parse_arguments([*given, *options]))
    serve.serve(serve.parse_arguments(given))
    (model, settings, many), (_, _, one) = asked
    assert model.folder == Path(served) and model.slicing == Slicing() and settings.max_queue == 9
    assert (many, one) == (Replicas(3, "127.0.0.1", 81, "auto"), Replicas(1, "127.0.0.1", 8080, None))
    for mistake, message in (
        (["--max_connections", "9"], "--max_connections has no effect with --ray"),
        (["--device", "xpu"], "--ray takes --device cpu, or gpu"),
    ):
        with pytest.raises(DeployError, match=message):
            serve.serve(serve.parse_arguments([*given, *mistake]))
    for mistake in (["--replicas", "2"], ["--ray_address", "auto"]):
        with pytest.raises(DeployError, match=f"{mistake[0]} has no effect without --ray"):
            serve.serve(serve.parse_arguments([*given[:2], *mistake]))


def test_a_replica_takes_requests_when_its_model_has_run(served, monkeypatch):
    """Later, while a process is started again, it stays: Ray would end it. It ends if its model cannot run."""
    monkeypatch.setenv("OPENCV_IO_MAX_IMAGE_PIXELS", "")  # afterwards it is as it was before
    del os.environ["OPENCV_IO_MAX_IMAGE_PIXELS"]
    replica = Replica(ServedModel(served), Settings(max_pixels=12345), ())
    assert os.environ["OPENCV_IO_MAX_IMAGE_PIXELS"] == "12345"  # for its processes
    assert isinstance(replica.__serve_build_asgi_app__(), Gate)
    replica.service = state = SimpleNamespace(obstacle="the model's process is starting", failure=None)

    async def become_ready():
        check = asyncio.ensure_future(replica.check_health())
        await asyncio.sleep(0)
        assert not check.done()
        state.obstacle = None
        await check
        state.obstacle = "the model's process is starting"
        await replica.check_health()
        state.failure = DeployError("the model cannot run")
        await replica.check_health()

    with pytest.raises(DeployError, match="the model cannot run"):
        asyncio.run(become_ready())


@pytest.mark.skipif(not HAS_RAY_SERVE, reason="the extra `ray` is not installed")
def test_replicas_answer_as_the_server_does(served, images, tmp_path):
    """A replica's process is killed too; and nothing is left of Ray afterwards."""
    import psutil

    expected = [Detector(served, "paddle", threads=1).predict(image).above(0.45) for image in images]
    options = ["--ray", "--replicas", "2", "--backend", "paddle"]
    with ServerProcess(served, tmp_path / "log", *options, token="abc") as server:

        def predict(image):
            body, headers = form(image, threshold="0.45")
            return server.request("POST", "/predict", body, {**headers, "Authorization": "Bearer abc"})

        def check_all():
            for image, found in zip(images, expected):
                status, content = predict(image)
                assert status == 200, content
                scores = [one["score"] for one in json.loads(content)["detections"]]
                assert scores == pytest.approx(sorted(found.scores.tolist(), reverse=True), abs=1e-3)

        family = psutil.Process(server.process.pid).children(recursive=True)
        replicas = [process for process in family if "ServeReplica" in " ".join(process.cmdline())]
        assert len(replicas) == 2
        assert server.request("POST", "/predict")[0] == 401
        check_all()
        assert json.loads(predict(images[0])[1])["image"] == {"width": 101, "height": 77}
        replicas[0].kill()
        wait_until(lambda: predict(images[0])[0] == 200)
        check_all()
        assert server.terminate() == 0
    _, alive = psutil.wait_procs(family, timeout=PATIENCE)
    assert alive == []
