"""Several processes training together. With one process everything here is a no-op."""

import contextlib
import os
import secrets
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import paddle
import paddle.distributed as dist
from paddle import Tensor, nn
from paddle.distributed import fleet as paddle_fleet

from ppdet.engine.device_choice import communicate_by_device, launched
from ppdet.engine.distributed.uncaught import before_terminate
from ppdet.engine.distributed.watchdog import GRACE_SECONDS, LINGER_SECONDS, RankLostError, Watchdog, listen
from ppdet.utils import device
from ppdet.utils.errors import ConfigError, UserError
from ppdet.utils.logger import get_logger
from ppdet.utils.process.stop import Stopped, stopped

logger = get_logger(__name__)
# How errors of Paddle's collective operations can be told from others.
COLLECTIVE_ERRORS = ("gloo", "nccl", "tcp_store", "tcpstore")

STATISTICS = ("._mean", "._variance")  # ends of the names of a batch norm's running statistics

_watchdog: Watchdog | None = None


@contextlib.contextmanager
def joined(*, fleet: bool = False, find_unused: bool = False) -> Iterator[None]:
    """Within the block this is one of the processes that `paddle.distributed.launch` started, if it did.

    When one of them ends before its time, all of them end, each with a line that names it and says why.

    Args:
        fleet: join through paddle.distributed.fleet; `wrap` then takes its data parallel layer.
        find_unused: see `wrap`.

    That is within the block; its exit code is then 2 (`Watchdog.leave`).

    Raises:
        RankLostError: a rank has not come in time.
        ConfigError: Paddle has another device in mind than the current one, or the launcher's variables are damaged.
    """
    global _watchdog
    if not launched():
        yield
        return
    before = device.name()
    communicate_by_device()
    start_fleet(find_unused) if fleet else dist.init_parallel_env()
    if device.name() != before:
        raise ConfigError(
            f"the device was {before}, and is {device.name()} since Paddle has started to communicate: set device to "
            f"it, or correct PADDLE_DISTRI_BACKEND ({os.environ['PADDLE_DISTRI_BACKEND']}) and the launcher's --devices"
        )
    _watchdog = watchdog = connect()
    try:
        with before_terminate(lambda: lost_by(watchdog, "an error in C++ code, which its own log has", LINGER_SECONDS)):
            yield
    except RankLostError as error:
        watchdog.leave(str(error))
    except BaseException as error:
        if getattr(error, "together", False):
            watchdog.finished()
            raise
        error = stopped() or error
        lost_by(watchdog, describe(error), patience(error))
        raise
    else:
        watchdog.finished()
    finally:
        _watchdog = None


def patience(error: BaseException) -> float:
    """Seconds to wait for news of a lost rank, of which an error of this one may be an echo."""
    if any(word in str(error).lower() for word in COLLECTIVE_ERRORS):
        return LINGER_SECONDS
    # A launcher that misses a process sends SIGTERM to the others.
    return GRACE_SECONDS if isinstance(error, (Stopped, KeyboardInterrupt)) else 0.0


def is_echo(error: BaseException) -> bool:
    """Whether an error of this rank comes from the loss of another one; then that has been announced, as what ends it.

    Where it may be, this takes some seconds, until `joined` would have the news, too.
    """
    watchdog = _watchdog
    if watchdog is None or getattr(error, "together", False):
        return False
    if isinstance(error, RankLostError):
        watchdog.announce(str(error))
        return True
    seconds = patience(stopped() or error)
    return seconds > 0 and watchdog.told(seconds)


def lost_by(watchdog: Watchdog, why: str, patience: float) -> None:
    """This rank ends: tell the others; or, if `patience` brings news of a lost rank, leave because of that."""
    news = watchdog.failed(why, patience=patience)
    if news and patience:
        watchdog.leave(news)


def start_fleet(find_unused: bool) -> None:
    strategy = paddle_fleet.DistributedStrategy()
    strategy.find_unused_parameters = find_unused
    # Fleet makes groups for kinds of parallelism that are not used here, and warns of each.
    warnings.filterwarnings("ignore", message="Current global rank")
    try:
        paddle_fleet.init(is_collective=True, strategy=strategy)
    except AttributeError as error:
        raise ConfigError(
            f"fleet: Paddle {paddle.__version__} cannot start it here ({error}): pip install 'protobuf<5', or leave "
            "--fleet out: it trains the same"
        ) from None


def connect() -> Watchdog:
    """Connect all ranks, at the address by which Paddle has reached rank 0."""
    token_and_address: list = [None]
    server = None
    if rank() == 0:
        server = listen(os.environ["PADDLE_CURRENT_ENDPOINT"].rpartition(":")[0])
        token_and_address = [(secrets.token_hex(), server.getsockname()[:2])]
    dist.broadcast_object_list(token_and_address, src=0)
    token, address = token_and_address[0]
    return Watchdog(rank(), world_size(), token=token, server=server, address=address)


def describe(error: BaseException) -> str:
    """One line."""
    if isinstance(error, Stopped):
        return f"exit code {error.code}"
    text = " ".join(str(error).split())
    known = isinstance(error, (UserError, OSError))
    return text if known and text else f"{type(error).__name__}: {text}"[:1000]


def rank() -> int:
    return dist.get_rank()


def world_size() -> int:
    return dist.get_world_size()


def gather(value: object) -> list:
    """`value` of every rank, in order of rank, on every rank."""
    if world_size() == 1:
        return [value]
    wait_for_all()
    values: list = []
    dist.all_gather_object(values, value)
    return values


def from_rank_0(make: Callable[[], Any], expected: type[Exception]) -> Any:
    """make(), called on rank 0 only and given to every rank; what it raises of type `expected` is raised on all."""
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


def largest(number: int) -> int:
    """The largest number of all ranks. All of them have to call it at the same point."""
    if world_size() == 1:
        return number
    value = paddle.to_tensor([number], dtype="int32")
    dist.all_reduce(value, op=dist.ReduceOp.MAX)
    return int(value.item())


@paddle.no_grad()
def on_all_ranks(condition: Tensor) -> Tensor:
    """Whether a boolean, of one element, is true on every rank; it is not read from the device.

    All of them have to call it at the same point.
    """
    if world_size() == 1:
        return condition
    value = condition.reshape([1]).astype("float32")
    dist.all_reduce(value, op=dist.ReduceOp.MIN)
    return value.astype("bool")


def wrap(model: nn.Layer, *, find_unused: bool = False, fleet: bool = False) -> nn.Layer:
    """Return the layer to call in training: gradients are averaged over ranks in its backward pass.

    Args:
        find_unused: look in every step for parameters that take no part in it.
        fleet: the layer is the one that fleet gives; `joined` has started it.
    """
    if world_size() == 1:
        return model
    wait_for_all()
    if any(getattr(layer, "synchronize", False) for layer in model.sublayers()):
        if device.has_kernel("sync_batch_norm"):
            synchronize_batch_norms(model)
        else:
            logger.warning(
                "sync_bn: Paddle has it for GPUs, not for %s: every process normalises by its own images",
                device.kind(),
            )
    if fleet:
        return paddle_fleet.distributed_model(model)
    return paddle.DataParallel(model, find_unused_parameters=find_unused)


def no_sync(parallel: nn.Layer, wanted: bool) -> contextlib.AbstractContextManager:
    """Within the block, if wanted, gradients of the layer that `wrap` gave add up on each rank alone."""
    return parallel.no_sync() if wanted and isinstance(parallel, paddle.DataParallel) else contextlib.nullcontext()


def wait_for_all() -> None:
    """Go on when every rank has come here, however long that takes.

    Gloo gives up an operation after 30 s. Before every one that ranks may come to at different times, because rank 0
    has written a checkpoint, say, they wait for each other here.
    """
    if _watchdog is not None:
        _watchdog.meet()
    elif world_size() > 1:
        dist.barrier()


def synchronize_batch_norms(model: nn.Layer) -> None:
    """Convert the batch norms that were asked to be sync_bn; frozen ones stay what they are."""
    for parent in model.sublayers(include_self=True):
        for name, child in list(parent.named_children()):
            if getattr(child, "synchronize", False):
                setattr(parent, name, nn.SyncBatchNorm.convert_sync_batchnorm(child))


@paddle.no_grad()
def average_statistics(state: dict[str, Tensor]) -> None:
    """Replace the running mean and variance of every batch norm by the mean over ranks.

    Each rank has seen other images. What is evaluated by all ranks, and saved by one, has to be one model.
    """
    if world_size() == 1:
        return
    for name, value in state.items():
        if name.endswith(STATISTICS):
            total = value.clone()
            dist.all_reduce(total)
            value.set_value(total / world_size())
