"""Several processes training together. With one process everything here is a no-op."""

import os

import paddle
import paddle.distributed as dist
from paddle import nn


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


def wrap(model: nn.Layer, *, find_unused: bool = False) -> nn.Layer:
    """Return the layer to call in training: gradients are averaged over ranks in its backward pass.

    Args:
        find_unused: look in every step for parameters that take no part in it.
    """
    if world_size() == 1:
        return model
    if paddle.is_compiled_with_cuda() and any(getattr(m, "synchronize", False) for m in model.sublayers()):
        nn.SyncBatchNorm.convert_sync_batchnorm(model)
    return paddle.DataParallel(model, find_unused_parameters=find_unused)
