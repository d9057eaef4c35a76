"""Ray for one command: batch jobs, and the server's replicas."""

import contextlib
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

from ppdet.utils.errors import DeployError
from ppdet.utils.process.cpu import cpu_count


@contextlib.contextmanager
def ray_session(address: str | None, cpus: int, step: Callable[[str], object]) -> Iterator[None]:
    """Within the block Ray is connected to the cluster at `address`, or runs on this machine for this command alone.

    If Ray is connected already, it is used and left as it is.

    Args:
        address: such as `auto` or `ray://HOST:10001`; None starts Ray on this machine.
        cpus: processors that the command needs at least.
        step: is told that Ray starts, which takes some seconds.
    """
    # Ray reads them when it is imported: no usage reports, and no warning about CUDA_VISIBLE_DEVICES.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    import ray

    if ray.is_initialized():
        yield
        return
    step("starting Ray" if address is None else "connecting to Ray")
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "address": address}
    if address is None:
        options.update(address="local", include_dashboard=False, num_cpus=max(cpu_count(), cpus))
    handler = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(**options)
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise DeployError(f"Ray does not start: {error}") from None
    finally:
        # Ray's own handler prints a traceback.
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)
    try:
        yield
    finally:
        ray.shutdown()
