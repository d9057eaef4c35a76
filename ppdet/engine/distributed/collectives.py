"""Joining the other ranks of a job, and collective operations. With one process all of them are no-ops."""

import contextlib
import os
import secrets
from collections.abc import Callable, Iterator
from typing import Any

import paddle
import paddle.distributed as dist
from paddle import Tensor

from ppdet.engine.device_choice import launched, select_backend
from ppdet.engine.distributed.uncaught import before_terminate
from ppdet.engine.distributed.watchdog import GRACE_SECONDS, LINGER_SECONDS, RankLostError, Watchdog, listen
from ppdet.utils import device
from ppdet.utils.errors import ConfigError, UserError
from ppdet.utils.process.stop import Stopped, stopped

# Words by which errors of Paddle's collective operations are told from others.
COLLECTIVE_ERRORS = ("gloo", "nccl", "tcp_store", "tcpstore")

STATISTICS = ("._mean", "._variance")  # how the names of a batch norm's running statistics end

_watchdog: Watchdog | None = None


@contextlib.contextmanager
def joined() -> Iterator[None]:
    """Within the block this process is a rank of the job that `paddle.distributed.launch` started, if one did.

    When a rank ends early within the block, all ranks end, each with exit code 2 and a line that names the lost rank
    and the cause.

    Raises:
        RankLostError: a rank did not join in time.
        ConfigError: Paddle communicates with another device than the current one, or the launcher's environment
            variables are damaged.
    """
    global _watchdog
    if not launched():
        yield
        return
    chosen = device.name()
    select_backend()
    dist.init_parallel_env()
    if device.name() != chosen:
        raise ConfigError(
            f"the device was {chosen}, and is {device.name()} since Paddle has started to communicate: set device to "
            f"it, or correct PADDLE_DISTRI_BACKEND ({os.environ['PADDLE_DISTRI_BACKEND']}) and the launcher's --devices"
        )
    _watchdog = watchdog = _connect()
    cpp_error = "an error in C++ code; its own log shows it"
    try:
        with before_terminate(lambda: _report_end(watchdog, cpp_error, LINGER_SECONDS)):
            yield
    except RankLostError as error:
        watchdog.leave(str(error))
    except BaseException as error:
        if getattr(error, "together", False):  # all ranks have agreed to end here
            watchdog.finished()
        else:
            cause = stopped() or error
            _report_end(watchdog, error_line(cause), _seconds_for_news(cause))
        raise
    else:
        watchdog.finished()
    finally:
        _watchdog = None


def _connect() -> Watchdog:
    """Connect the watchdogs of all ranks, at the address by which Paddle reached rank 0."""
    token_and_address: list = [None]
    server = None
    if rank() == 0:
        server = listen(os.environ["PADDLE_CURRENT_ENDPOINT"].rpartition(":")[0])
        token_and_address = [(secrets.token_hex(), server.getsockname()[:2])]
    dist.broadcast_object_list(token_and_address, src=0)
    token, address = token_and_address[0]
    return Watchdog(rank(), world_size(), token=token, server=server, address=address)


def _report_end(watchdog: Watchdog, cause: str, seconds_for_news: float) -> None:
    """Tell the other ranks that this one ends; if another rank is reported lost while waiting, exit with that cause."""
    news = watchdog.failed(cause, patience=seconds_for_news)
    if news and seconds_for_news:
        watchdog.leave(news)


def _seconds_for_news(error: BaseException) -> float:
    """How long to wait for news of a lost rank of which `error` may be a consequence, in seconds."""
    if any(word in str(error).lower() for word in COLLECTIVE_ERRORS):
        return LINGER_SECONDS
    # A launcher that misses a process sends SIGTERM to the others.
    return GRACE_SECONDS if isinstance(error, (Stopped, KeyboardInterrupt)) else 0.0


def follows_from_lost_rank(error: BaseException) -> bool:
    """Whether an error of this rank is a consequence of the loss of another one, which is then announced in its place.

    Where that is possible, wait some seconds for the news.
    """
    if _watchdog is None or getattr(error, "together", False):
        return False
    if isinstance(error, RankLostError):
        _watchdog.announce(str(error))
        return True
    seconds = _seconds_for_news(stopped() or error)
    return seconds > 0 and _watchdog.announces_news(seconds)


def error_line(error: BaseException) -> str:
    """Return one line that says why a process ends."""
    if isinstance(error, Stopped):
        return f"exit code {error.code}"
    text = " ".join(str(error).split())
    is_readable = text and isinstance(error, (UserError, OSError))
    return text if is_readable else f"{type(error).__name__}: {text}"[:1000]


def rank() -> int:
    """The rank of this process in the job, from 0."""
    return dist.get_rank()


def world_size() -> int:
    """The number of processes of the job."""
    return dist.get_world_size()


def wait_for_all() -> None:
    """Wait without a time limit until every rank has called this.

    Gloo gives up an operation after 30 s. So ranks wait here for each other before every operation that they may reach
    at very different times, for example because rank 0 writes a checkpoint first.
    """
    if _watchdog is not None:
        _watchdog.meet()
    elif world_size() > 1:
        dist.barrier()


def gather(value: Any) -> list:
    """Return the `value` of every rank, in the order of ranks, on every rank."""
    if world_size() == 1:
        return [value]
    wait_for_all()
    values: list = []
    dist.all_gather_object(values, value)
    return values


def from_rank_0(make: Callable[[], Any], expected: type[Exception]) -> Any:
    """Call `make` on rank 0 only, and return its result on every rank.

    An exception of type `expected` that it raises is raised on every rank, with the same message.
    """
    if world_size() == 1:
        return make()
    outcome: list = [None]
    if rank() == 0:
        try:
            outcome = [(make(), None)]
        except expected as error:
            outcome = [(None, str(error))]
    wait_for_all()
    dist.broadcast_object_list(outcome, src=0)
    value, message = outcome[0]
    if message is not None:
        raise expected(message)
    return value


def max_over_ranks(number: int) -> int:
    """Return the largest `number` of all ranks. All ranks have to call this at the same point."""
    if world_size() == 1:
        return number
    value = paddle.to_tensor([number], dtype="int32")
    dist.all_reduce(value, op=dist.ReduceOp.MAX)
    return int(value.item())


@paddle.no_grad()
def sum_over_ranks(value: Tensor) -> Tensor:
    """Return the sum of a float32 tensor over all ranks, without reading it. All ranks have to call this together."""
    if world_size() > 1:
        value = value.clone()
        dist.all_reduce(value)
    return value


@paddle.no_grad()
def true_on_all_ranks(condition: Tensor) -> Tensor:
    """Return a boolean tensor, true if `condition` (one boolean) is true on every rank, without reading either.

    All ranks have to call this at the same point.
    """
    if world_size() == 1:
        return condition
    value = condition.reshape([1]).astype("float32")
    dist.all_reduce(value, op=dist.ReduceOp.MIN)
    return value.astype("bool")


@paddle.no_grad()
def average_statistics(state: dict[str, Tensor]) -> None:
    """Replace the running mean and variance of every batch norm in a state dict by their means over ranks.

    Each rank has seen other images; but what all ranks evaluate, and rank 0 saves, has to be one model.
    """
    if world_size() == 1:
        return
    for name, value in state.items():
        if name.endswith(STATISTICS):
            total = value.clone()
            dist.all_reduce(total)
            value.set_value(total / world_size())
