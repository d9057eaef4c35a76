"""Several processes training together. With one process everything here is a no-op."""

import contextlib
import os
from collections.abc import Callable
from typing import Any

import paddle
import paddle.distributed as dist
from paddle import Tensor, nn


def start() -> None:
    """Join the processes that `paddle.distributed.launch` started, if it did."""
    if int(os.environ.get("PADDLE_TRAINERS_NUM", "1")) > 1 and not dist.is_initialized():
        dist.init_parallel_env()


def rank() -> int:
    return dist.get_rank()


def world_size() -> int:
    return dist.get_world_size()


def gather(value: object) -> list:
    """`value` of every rank, in order of rank, on every rank."""
    if world_size() == 1:
        return [value]
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
    dist.broadcast_object_list(outcome, src=0)
    value, message = outcome[0]
    if message is not None:
        raise expected(message)
    return value


def any_rank(flag: bool) -> bool:
    """Whether the flag is true on any rank. All ranks have to call it at the same point."""
    if world_size() == 1:
        return flag
    total = paddle.to_tensor([int(flag)], dtype="int32")
    dist.all_reduce(total)
    return bool(total.item())


def wrap(model: nn.Layer, *, find_unused: bool = False) -> nn.Layer:
    """Return the layer to call in training: gradients are averaged over ranks in its backward pass.

    Args:
        find_unused: look in every step for parameters that take no part in it.
    """
    if world_size() == 1:
        return model
    if paddle.get_device().startswith("gpu"):
        synchronize_batch_norms(model)
    return paddle.DataParallel(model, find_unused_parameters=find_unused)


def no_sync(parallel: nn.Layer, wanted: bool) -> contextlib.AbstractContextManager:
    """Within the block, if wanted, gradients of the layer that `wrap` gave add up on each rank alone."""
    return parallel.no_sync() if wanted and isinstance(parallel, paddle.DataParallel) else contextlib.nullcontext()


def wait_for_all() -> None:
    """Go on when every rank has come here."""
    if world_size() > 1:
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
        if name.endswith(("._mean", "._variance")):
            total = value.clone()
            dist.all_reduce(total)
            value.set_value(total / world_size())
