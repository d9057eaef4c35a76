"""Gradient clipping by the global norm."""

import paddle
from paddle import Tensor, nn

from ppdet.optimizer.joined import divide
from ppdet.utils import device


class ClipByNorm(nn.ClipGradByGlobalNorm):
    """Paddle's clipping by the global norm, with fewer kernels on devices that work asynchronously.

    There, one kernel scales all gradients in place. Paddle starts one for each gradient, and doubles their memory.
    """

    @paddle.no_grad()
    def _dygraph_clip(self, params_grads: list[tuple[Tensor, Tensor]]) -> list[tuple[Tensor, Tensor]]:
        gradients = [g for p, g in params_grads if g is not None and getattr(p, "need_clip", True)]
        if not gradients or not device.runs_behind_host():
            return super()._dygraph_clip(params_grads)
        squares = paddle._C_ops.concat([paddle._C_ops.squared_l2_norm(g) for g in gradients], 0)
        limit = paddle.full([], self.clip_norm)
        divide(gradients, paddle.maximum(squares.sum().sqrt(), limit) / limit)
        return params_grads
