"""The server's requests and answers from several replicas on a Ray cluster, by Ray Serve: `ppdet serve --ray`.

Ray's proxies accept connections and pass requests on to replicas. Each replica is the whole application with a service
of its own (app.py, service.py): its limits, its processes and its model.
"""

import asyncio
import os
import signal
import threading
from collections.abc import Sequence
from typing import NamedTuple

from ppdet.core.extensions import import_extensions, imported
from ppdet.data.image_files.size import LIMIT_VARIABLE
from ppdet.deploy.ray_session import ray_session
from ppdet.deploy.serving.app import create_app
from ppdet.deploy.serving.gate import Gate
from ppdet.deploy.serving.jobs import ServedModel
from ppdet.deploy.serving.limits import Settings
from ppdet.deploy.serving.notices import Notices
from ppdet.deploy.serving.server import bound_socket
from ppdet.deploy.serving.service import WATCH_S, Service
from ppdet.utils.errors import DeployError
from ppdet.utils.extras import not_installed
from ppdet.utils.logger import get_logger
from ppdet.utils.printable import counted

logger = get_logger(__name__)
APPLICATION = "ppdet"  # its name in Ray Serve
# Requests that Ray sends to a replica at once, relative to `max_queue`: those that are too many get the server's own
# 503, and the health checks are answered beside them.
MOST_REQUESTS = 2
GRACE_S = 5.0  # more than `timeout_s` for a replica to end


class Replicas(NamedTuple):
    """How many replicas there are, and where.

    number: of replicas. host, port: where Ray's proxies listen. address: of a Ray cluster, such as `auto`; None starts
    Ray on this machine.
    """

    number: int = 1
    host: str = "127.0.0.1"
    port: int = 8080
    address: str | None = None


class Replica:
    """The deployment of Ray Serve, which makes the application after this class's constructor."""

    def __init__(self, model: ServedModel, settings: Settings, extensions: Sequence[str]) -> None:
        # The processes that decode images inherit it, as those of a server without Ray do.
        os.environ.setdefault(LIMIT_VARIABLE, str(settings.max_pixels))
        import_extensions(extensions)
        self.service = Service(model, settings)
        self.has_started = False

    def __serve_build_asgi_app__(self) -> Gate:  # the name is Ray's
        return create_app(self.service, Notices(logger))

    async def check_health(self) -> None:
        """Ray calls it before it sends the first request, and then again and again.

        Raises:
            DeployError: the model cannot be loaded, or cannot run. Ray ends the replica then.
        """
        while not self.has_started and self.service.failure is None:
            self.has_started = self.service.obstacle is None
            await asyncio.sleep(WATCH_S)
        if self.service.failure is not None:
            raise self.service.failure


def serve_on_ray(model: ServedModel, settings: Settings, replicas: Replicas) -> None:
    """Serve until SIGTERM or SIGINT, and return when the replicas have answered their requests and ended.

    Raises:
        DeployError: Ray Serve is not installed, the cluster has no room, the port is in use, or the model cannot run.
    """
    try:
        from ray import serve
    except ImportError:
        raise DeployError(not_installed(["ray[serve]"])) from None
    ending = threading.Event()
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    threads = model.threads or 1
    model = model._replace(folder=model.folder.resolve(), threads=threads)
    Service(model, settings)  # what is wrong with the folder is one line here
    port = free_port(replicas)
    with ray_session(replicas.address, replicas.number * threads, logger.info):
        require_room(replicas.number, threads, model.device)
        serve.start(http_options={"host": replicas.host, "port": port}, logging_config={"log_level": "WARNING"})
        try:
            application = serve.deployment(
                serve.ingress()(Replica),
                name="server",
                num_replicas=replicas.number,
                max_ongoing_requests=MOST_REQUESTS * settings.max_queue,
                graceful_shutdown_timeout_s=settings.timeout_s + GRACE_S,
                max_constructor_retry_count=1,
                ray_actor_options={"num_cpus": threads, "num_gpus": int(model.device == "gpu")},
                logging_config={"log_level": "WARNING", "enable_access_log": False},
            ).bind(model, settings, imported())
            serve.run(application, name=APPLICATION)
            for number in before:
                signal.signal(number, lambda *_: ending.set())
            logger.info("listening on http://%s:%d with %s", replicas.host, port, counted(replicas.number, "replica"))
            ending.wait()
            logger.info("ending")
        except RuntimeError as error:
            raise DeployError(f"Ray Serve cannot start the replicas: {reason_of(error)}") from None
        finally:
            if replicas.address is None:
                serve.shutdown()
            else:
                serve.delete(APPLICATION)
            for number, handler in before.items():
                signal.signal(number, handler)
    logger.info("ended")


def free_port(replicas: Replicas) -> int:
    """The port that replicas listen on, which is free on this machine.

    Raises:
        DeployError: it is in use, or `host` is no address of this machine.
    """
    with bound_socket(replicas.host, replicas.port) as listener:
        return listener.getsockname()[1]


def require_room(count: int, threads: int, device: str) -> None:
    """Raise DeployError if the cluster has too few processors or GPUs: Ray Serve would wait for them without end."""
    import ray

    cluster = ray.cluster_resources()
    wanted = {"CPU": ("processors", count * threads), "GPU": ("GPUs", count * int(device == "gpu"))}
    for name, (noun, number) in wanted.items():
        there = int(cluster.get(name, 0))
        if number > there:
            raise DeployError(f"--replicas {count} needs {number} {noun}, but Ray has {there}")


def reason_of(error: RuntimeError) -> str:
    """The line of Ray's error that tells what happened in a replica: the last one that names an error of ours."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    ours = [line.partition("DeployError: ")[2] for line in lines if "DeployError: " in line]
    return (ours or lines or ["for an unknown reason"])[-1]
