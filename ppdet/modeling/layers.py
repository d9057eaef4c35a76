"""Building blocks of backbone, neck and head: convolutions, norms, pooling, upsampling.

Where a model runs on a CPU in Python, they compute with oneDNN (`ppdet.modeling.cpu`), otherwise with Paddle.
"""

from typing import Any, Literal

import paddle
import paddle.nn.functional as F
from paddle import ParamAttr, Tensor, nn
from paddle.nn.initializer import Constant, Initializer
from paddle.regularizer import L2Decay
from paddle.vision.ops import DeformConv2D

from ppdet.modeling import cpu
from ppdet.modeling.folding import is_constant, scale_and_shift, scale_and_shift_cached, scaled_weight
from ppdet.modeling.mixed import Float32, autocast_dtype, in_float32, like_convolved
from ppdet.utils import device
from ppdet.utils.ranges import require_choice

# See `make_norm`.
Freeze = bool | Literal["statistics"]


def make_norm(
    norm_type: str,
    channels: int,
    *,
    frozen: Freeze = False,
    lr_mult: float = 1.0,
    decay: float | None = 0.0,
    groups: int = 32,
) -> nn.Layer:
    """A normalization layer.

    Args:
        norm_type: bn, sync_bn or gn. sync_bn also gives a batch norm here; the trainer converts it to one over all
            ranks when several GPUs train.
        channels: C of the maps (N, C, H, W).
        frozen: true: it uses its stored statistics, and neither scale nor bias train. "statistics": it uses its stored
            statistics, and both train. Batch norms only.
        lr_mult: factor of the learning rate of scale and bias.
        decay: weight decay (L2) of scale and bias; None: the optimizer's.
        groups: number of groups of a group norm.
    """
    require_choice("freeze_norm", frozen, (True, False, "statistics"))
    require_choice("norm_type", norm_type, ("bn", "sync_bn", "gn"))
    constant = frozen not in (False, "statistics")
    regularizer = None if decay is None else L2Decay(decay)
    attr: dict[str, Any] = {
        "learning_rate": 0.0 if constant else lr_mult,
        "regularizer": regularizer,
        "trainable": not constant,
    }
    if norm_type in ("bn", "sync_bn"):
        norm = nn.BatchNorm2D(
            channels,
            weight_attr=ParamAttr(**attr),
            bias_attr=ParamAttr(**attr),
            use_global_stats=True if frozen else None,
        )
        norm.synchronize = norm_type == "sync_bn" and not frozen
        return norm
    if channels % groups:
        raise ValueError(f"norm_type is gn, whose {groups} groups need a multiple of {groups} channels, not {channels}")
    return nn.GroupNorm(groups, channels, weight_attr=ParamAttr(**attr), bias_attr=ParamAttr(**attr))


class Conv2D(nn.Conv2D):
    """A convolution that oneDNN computes where a model runs on a CPU in Python.

    Attributes:
        float_result: whether the result is float32 even in mixed precision.
    """

    float_result = False

    def forward(self, x: Tensor, *, residual: Tensor | None = None, relu: bool = False) -> Tensor:
        """Convolve x (N, C, H, W), add `residual` if given, and apply a ReLU if asked."""
        return self.affine(x, None, None, residual=residual, relu=relu)

    def affine(
        self,
        x: Tensor,
        scale: Tensor | None,
        shift: Tensor | None,
        *,
        residual: Tensor | None = None,
        relu: bool = False,
    ) -> Tensor:
        """As `forward`, with conv(x) * scale + shift for conv(x); scale and shift (O,) are constants, or None."""
        y = cpu.convolve(
            self, x, residual=residual, relu=relu, scale=scale, shift=shift, float_result=self.float_result
        )
        if y is not None:
            return y
        return add_residual_relu(self.convolve_by_paddle(bfloat16_to_float32_on_cpu(x), scale, shift), residual, relu)

    def convolve_by_paddle(self, x: Tensor, scale: Tensor | None, shift: Tensor | None) -> Tensor:
        """conv(x) * scale + shift by Paddle's convolution, whose result and bias have one type in mixed precision."""
        bias = self.bias if shift is None else shift
        if scale is None and (bias is None or autocast_dtype() is None):
            # super() would fail: Paddle 2.6 turns the body of an `if` into a function when it records a static graph.
            y = nn.Conv2D.forward(self, x)
            return in_float32(y) if self.float_result else y
        weight = self.weight if scale is None else scaled_weight(self.weight, scale)
        padding = self._padding
        if self._padding_mode != "zeros":
            x, padding = F.pad(x, self._reversed_padding_repeated_twice, mode=self._padding_mode), 0
        geometry = self._stride, padding, self._dilation, self._groups
        if not self.float_result:
            return F.conv2d(x, weight, like_convolved(bias), *geometry)
        y = in_float32(F.conv2d(x, weight, None, *geometry))
        with Float32():
            return y + bias.reshape([1, -1, 1, 1])


def sample_deformed(x: Tensor, conv_offset: nn.Layer, conv: nn.Layer, samples: int) -> Tensor:
    """Apply a modulated deformable convolution to x (N, C, H, W), in float32, the only type that its kernels have.

    Args:
        conv_offset: computes the offsets (y, x) and the mask of each sample from x, 3 * samples channels.
        conv: the deformable convolution.
        samples: number of samples, kernel height x kernel width.
    """
    offset_and_mask = bfloat16_to_float32_on_cpu(conv_offset(x))
    with Float32():
        offset, mask = in_float32(offset_and_mask).split([2 * samples, samples], axis=1)
        y = conv(in_float32(x), offset, mask=F.sigmoid(mask))
    return like_convolved(y)


def normalize(norm: nn.Layer, x: Tensor, *, residual: Tensor | None = None, relu: bool = False) -> Tensor:
    """Apply a norm to x (N, C, H, W), add `residual` if given, and apply a ReLU if asked."""
    fused = relu and residual is None
    if type(norm) is nn.GroupNorm and cpu.can_compute_norm(norm, x):
        return add_residual_relu(cpu.group_norm(norm, x, relu=fused), residual, relu and not fused)
    trains = type(norm) is nn.BatchNorm2D and norm.training and not is_constant(norm)
    if trains and cpu.can_compute_norm(norm, x):
        return add_residual_relu(cpu.batch_norm(norm, x, relu=fused), residual, relu and not fused)
    x = bfloat16_to_float32_on_cpu(x)
    if isinstance(norm, nn.SyncBatchNorm) and norm._use_global_stats:
        # Its own forward pass would use the batch's statistics all the same.
        stored = norm._mean, norm._variance, norm.weight, norm.bias
        y = F.batch_norm(x, *stored, training=norm.training, epsilon=norm._epsilon, use_global_stats=True)
    else:
        y = norm(x)
    return add_residual_relu(y, residual, relu)


def add_residual_relu(y: Tensor, residual: Tensor | None, relu: bool) -> Tensor:
    """Add `residual` to y if given, and apply a ReLU if asked."""
    if relu and residual is not None and cpu.can_compute(y, residual):
        return cpu.add_relu(y, residual)
    if residual is not None:
        y = bfloat16_to_float32_on_cpu(y) + bfloat16_to_float32_on_cpu(residual)
    return apply_relu(y) if relu else y


def bfloat16_to_float32_on_cpu(x: Tensor) -> Tensor:
    """x, cast to float32 if it is bfloat16 on a CPU, where most of Paddle's operations do not support it."""
    small = paddle.in_dynamic_mode() and x.dtype == paddle.bfloat16 and device.is_cpu()
    return x.astype("float32") if small else x


def apply_relu(x: Tensor) -> Tensor:
    """The ReLU of a map (N, C, H, W)."""
    return cpu.relu(x) if cpu.can_compute(x) else F.relu(x)


def duplicate_with_summed_gradient(x: Tensor) -> tuple[Tensor, Tensor]:
    """x twice, for two users. On a CPU, oneDNN then adds their gradients."""
    return cpu.duplicate_with_summed_gradient(x) if cpu.can_compute(x) else (x, x)


def max_pool(x: Tensor, kernel_size: int, *, stride: int, padding: int) -> Tensor:
    """Max pooling of a map (N, C, H, W)."""
    if cpu.can_compute(x):
        return cpu.max_pool(x, kernel_size, stride, padding)
    return F.max_pool2d(x, kernel_size, stride=stride, padding=padding)


def avg_pool_2x2(x: Tensor) -> Tensor:
    """Mean over 2x2 pixels, (N, C, H, W) to (N, C, ceil(H / 2), ceil(W / 2)); at the border over fewer pixels."""
    if cpu.can_compute(x) and x.shape[2] % 2 == 0 and x.shape[3] % 2 == 0:
        return cpu.mean_pool(x, 2, 2)
    return F.avg_pool2d(bfloat16_to_float32_on_cpu(x), kernel_size=2, stride=2, padding=0, ceil_mode=True)


def upsample_twice(x: Tensor) -> Tensor:
    """Nearest-neighbor upsampling of (N, C, H, W) to (N, C, 2H, 2W).

    F.interpolate would store its scale as doubles in an exported graph, which neither the oneDNN executor of Paddle
    Inference nor the conversion to ONNX accepts.
    """
    if cpu.can_compute(x):
        return cpu.upsample_twice(x)
    x = x.unsqueeze(4).expand([-1, -1, -1, -1, 2]).flatten(3)
    return x.unsqueeze(3).expand([-1, -1, -1, 2, -1]).flatten(2, 3)


class ConvNorm(nn.Layer):
    """A convolution and a norm, which backbone and neck are made of.

    Args:
        in_channels, out_channels, kernel_size, stride, groups: parameters of the convolution, which has no bias.
        norm_type, freeze_norm, norm_decay: `norm_type`, `frozen` and `decay` of `make_norm`.
        lr_mult: factor of the learning rate of all parameters.
        deformable: use a modulated deformable convolution; its parameters have the names of published backbones,
            `conv_offset` beside `conv`.
        initializer: initializer of the convolution's weight; None: Paddle's default.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        groups: int = 1,
        norm_type: str = "bn",
        norm_decay: float | None = 0.0,
        freeze_norm: Freeze = False,
        lr_mult: float = 1.0,
        deformable: bool = False,
        initializer: Initializer | None = None,
    ) -> None:
        super().__init__()
        self.samples = kernel_size * kernel_size if deformable else 0
        options: dict[str, Any] = {
            "stride": stride,
            "padding": (kernel_size - 1) // 2,
            "weight_attr": ParamAttr(learning_rate=lr_mult, initializer=initializer),
            "bias_attr": False,
        }
        if deformable:
            zero = ParamAttr(initializer=Constant(0.0))
            self.conv_offset = Conv2D(
                in_channels,
                3 * self.samples,
                kernel_size,
                stride=stride,
                padding=(kernel_size - 1) // 2,
                weight_attr=zero,
                bias_attr=ParamAttr(initializer=Constant(0.0)),
            )
            self.conv = DeformConv2D(in_channels, out_channels, kernel_size, groups=groups, **options)
        else:
            self.conv = Conv2D(in_channels, out_channels, kernel_size, groups=groups, **options)
        self.norm = make_norm(norm_type, out_channels, frozen=freeze_norm, lr_mult=lr_mult, decay=norm_decay)

    def forward(self, x: Tensor, *, residual: Tensor | None = None, relu: bool = False) -> Tensor:
        """norm(conv(x)) for x (N, C, H, W), plus `residual` if given, through a ReLU if asked.

        A constant norm is folded into the convolution. Forward hooks of the two layers do not run then.
        """
        if self.samples:
            y = sample_deformed(x, self.conv_offset, self.conv, self.samples)
            return normalize(self.norm, y, residual=residual, relu=relu)
        if isinstance(self.norm, nn.Identity):
            return self.conv(x, residual=residual, relu=relu)
        if is_constant(self.norm):
            return self.conv.affine(x, *scale_and_shift_cached(self.norm), residual=residual, relu=relu)
        return normalize(self.norm, self.conv(x), residual=residual, relu=relu)

    @paddle.no_grad()
    def fuse(self) -> bool:
        """Fold the batch norm into the convolution's weight and bias for good, for inference.

        Returns:
            Whether it was done; it is not if the norm is no batch norm.
        """
        norm = self.norm
        if not isinstance(norm, nn.BatchNorm2D):
            return False
        scale, shift = scale_and_shift(norm)
        self.conv.weight.set_value(self.conv.weight * scale.reshape([-1, 1, 1, 1]))
        self.conv.bias = self.conv.create_parameter(shift.shape, is_bias=True)
        self.conv.bias.set_value(shift)
        self.norm = nn.Identity()
        return True
