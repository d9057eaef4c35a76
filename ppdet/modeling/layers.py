"""Building blocks: convolution with norm, deformable convolution.

Letters used in this package: N images, R locations (all levels together), M boxes, C classes, L levels.
"""

from typing import Literal

import paddle
import paddle.nn.functional as F
from paddle import ParamAttr, Tensor, nn
from paddle.nn.initializer import Constant, Initializer
from paddle.regularizer import L2Decay
from paddle.vision.ops import DeformConv2D

from ppdet.modeling import cpu
from ppdet.modeling.folding import folded, is_constant, scale_and_shift, scaled_weight
from ppdet.modeling.mixed import Float32, convolved_type, in_float32, like_convolved
from ppdet.utils import device

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
    """Return the normalisation layer `norm_type` names: bn, sync_bn or gn.

    `frozen` uses the stored statistics and trains neither scale nor bias; "statistics" uses them, and trains both.
    `decay` is the L2 factor of scale and bias, None the optimizer's own. sync_bn gives a batch norm here; the trainer
    converts it when several GPUs train.
    """
    if frozen not in (True, False, "statistics"):
        raise ValueError(f"freeze_norm is {frozen!r}; it must be true, false or statistics")
    constant = frozen not in (False, "statistics")
    regularizer = None if decay is None else L2Decay(decay)
    attr = {
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
    if norm_type == "gn":
        return nn.GroupNorm(groups, channels, weight_attr=ParamAttr(**attr), bias_attr=ParamAttr(**attr))
    raise ValueError(f"norm_type is {norm_type!r}; it must be bn, sync_bn or gn")


class Conv2D(nn.Conv2D):
    """Paddle's convolution, and oneDNN's in its place where a model runs on a CPU in Python.

    float_result: the result is float32 even where layers compute in a smaller type.
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
        """As `forward`; `scale` and `shift` (O,), if given, are constants that follow a convolution without bias."""
        options = {"scale": scale, "shift": shift, "float_result": self.float_result}
        y = cpu.convolve(self, x, residual=residual, relu=relu, **options)
        if y is not None:
            return y
        return finish(self.by_paddle(for_paddle(x), scale, shift), residual, relu)

    def by_paddle(self, x: Tensor, scale: Tensor | None, shift: Tensor | None) -> Tensor:
        """conv(x) * scale + shift by Paddle's convolution. In mixed precision its result and a bias have one type."""
        bias = self.bias if shift is None else shift
        if scale is None and (bias is None or convolved_type() is None):
            # Not super(): Paddle 2.6 turns the body of an `if` into a function when it records a static graph.
            y = nn.Conv2D.forward(self, x)
            return in_float32(y) if self.float_result else y
        weight = self.weight if scale is None else scaled_weight(self.weight, scale)
        padding = self._padding
        if self._padding_mode != "zeros":
            x, padding = F.pad(x, self._reversed_padding_repeated_twice, mode=self._padding_mode), 0
        where = self._stride, padding, self._dilation, self._groups
        if not self.float_result:
            return F.conv2d(x, weight, like_convolved(bias), *where)
        y = in_float32(F.conv2d(x, weight, None, *where))
        with Float32():
            return y + bias.reshape([1, -1, 1, 1])


def sample_deformed(x: Tensor, conv_offset: nn.Layer, conv: nn.Layer, samples: int) -> Tensor:
    """Apply the deformable `conv` to x (N, C, H, W), with offsets and masks that `conv_offset` reads from x.

    It is computed in float32, the only type that Paddle has kernels of it for.
    """
    offset_and_mask = for_paddle(conv_offset(x))
    with Float32():
        offset, mask = in_float32(offset_and_mask).split([2 * samples, samples], axis=1)
        y = conv(in_float32(x), offset, mask=F.sigmoid(mask))
    return like_convolved(y)


def normalize(norm: nn.Layer, x: Tensor, *, residual: Tensor | None = None, relu: bool = False) -> Tensor:
    """norm(x), plus `residual` if given, through a ReLU if asked."""
    fused = relu and residual is None
    if type(norm) is nn.GroupNorm and cpu.takes_norm(norm, x):
        return finish(cpu.group_norm(norm, x, relu=fused), residual, relu and not fused)
    trains = type(norm) is nn.BatchNorm2D and norm.training and not is_constant(norm)
    if trains and cpu.takes_norm(norm, x):
        return finish(cpu.batch_norm(norm, x, relu=fused), residual, relu and not fused)
    return finish(norm(for_paddle(x)), residual, relu)


def finish(y: Tensor, residual: Tensor | None, relu: bool) -> Tensor:
    """y, plus `residual` if given, through a ReLU if asked."""
    if relu and residual is not None and cpu.takes(y, residual):
        return cpu.add_relu(y, residual)
    if residual is not None:
        y = for_paddle(y) + for_paddle(residual)
    return rectify(y) if relu else y


def for_paddle(x: Tensor) -> Tensor:
    """x as float32 if it is bfloat16 on a CPU, where most of Paddle's own operations do not take that."""
    small = paddle.in_dynamic_mode() and x.dtype == paddle.bfloat16 and device.is_cpu()
    return x.astype("float32") if small else x


def rectify(x: Tensor) -> Tensor:
    """The ReLU of a map (N, C, H, W)."""
    return cpu.relu(x) if cpu.takes(x) else F.relu(x)


def fork(x: Tensor) -> tuple[Tensor, Tensor]:
    """x for two users of it. On a CPU their gradients then meet in oneDNN."""
    return cpu.fork(x) if cpu.takes(x) else (x, x)


def max_pool(x: Tensor, kernel_size: int, *, stride: int, padding: int) -> Tensor:
    if cpu.takes(x):
        return cpu.max_pool(x, kernel_size, stride, padding)
    return F.max_pool2d(x, kernel_size, stride=stride, padding=padding)


def halve(x: Tensor) -> Tensor:
    """Mean over 2x2 pixels; at an odd end over those that are there."""
    if cpu.takes(x) and x.shape[2] % 2 == 0 and x.shape[3] % 2 == 0:
        return cpu.mean_pool(x, 2, 2)
    return F.avg_pool2d(for_paddle(x), kernel_size=2, stride=2, padding=0, ceil_mode=True)


def upsample_twice(x: Tensor) -> Tensor:
    """Nearest-neighbour upsampling of (N, C, H, W) to (N, C, 2H, 2W).

    Written without F.interpolate: that stores its scale as doubles, which neither Paddle Inference's oneDNN executor
    nor ONNX conversion accepts.
    """
    if cpu.takes(x):
        return cpu.upsample_twice(x)
    x = x.unsqueeze(4).expand([-1, -1, -1, -1, 2]).flatten(3)
    return x.unsqueeze(3).expand([-1, -1, -1, 2, -1]).flatten(2, 3)


class ConvNorm(nn.Layer):
    """Convolution, then norm: the layer that backbone and neck are made of.

    With `deformable`, a modulated deformable convolution takes the place of the plain one, under the names that
    published backbones use (`conv_offset` beside `conv`).
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
        options = {
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
        """norm(conv(x)), plus `residual` if given, through a ReLU if asked; x (N, C, H, W).

        Where the norm is constant it is folded into the convolution: forward hooks of the two do not run then.
        """
        if self.samples:
            y = sample_deformed(x, self.conv_offset, self.conv, self.samples)
            return normalize(self.norm, y, residual=residual, relu=relu)
        if isinstance(self.norm, nn.Identity):
            return self.conv(x, residual=residual, relu=relu)
        if is_constant(self.norm):
            return self.conv.affine(x, *folded(self.norm), residual=residual, relu=relu)
        return normalize(self.norm, self.conv(x), residual=residual, relu=relu)

    @paddle.no_grad()
    def fuse(self) -> bool:
        """Fold the batch norm's stored statistics, scale and bias into the convolution, for inference only.

        Returns False, and changes nothing, when the norm is not a batch norm.
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
