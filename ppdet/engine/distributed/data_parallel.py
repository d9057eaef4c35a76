"""Wrapping a network so that its gradients are averaged over ranks."""

import contextlib

import paddle
from paddle import nn

from ppdet.engine.distributed import collectives
from ppdet.utils import device
from ppdet.utils.logger import get_logger

logger = get_logger(__name__)


def wrap(model: nn.Layer, *, find_unused: bool = False) -> nn.Layer:
    """Return the layer to call in training: its backward pass averages gradients over ranks.

    With several ranks, all of them get the weights of rank 0, and batch norms of type `sync_bn` are synchronized.

    Args:
        find_unused: search in every step for parameters that take no part in it.
    """
    if collectives.world_size() == 1:
        return model
    collectives.wait_for_all()
    if any(_is_sync_bn(layer) for layer in model.sublayers()):
        if device.has_kernel("sync_batch_norm"):
            synchronize_batch_norms(model)
        else:
            logger.warning(
                "sync_bn: Paddle has it for GPUs, not for %s: every process normalizes by its own images",
                device.device_type(),
            )
    return paddle.DataParallel(model, find_unused_parameters=find_unused)


def averaging(parallel: nn.Layer, *, enabled: bool) -> contextlib.AbstractContextManager:
    """Within the block, backward passes of the layer that `wrap` returned average gradients over ranks, if `enabled`.

    Otherwise gradients add up on each rank.
    """
    if enabled or not isinstance(parallel, paddle.DataParallel):
        return contextlib.nullcontext()
    return parallel.no_sync()


def synchronize_batch_norms(model: nn.Layer) -> None:
    """Convert the batch norms that `make_norm("sync_bn", …)` made, unless they are frozen."""
    for parent in model.sublayers(include_self=True):
        for name, child in list(parent.named_children()):
            if _is_sync_bn(child):
                setattr(parent, name, nn.SyncBatchNorm.convert_sync_batchnorm(child))


def _is_sync_bn(layer: nn.Layer) -> bool:
    return getattr(layer, "synchronize", False)
