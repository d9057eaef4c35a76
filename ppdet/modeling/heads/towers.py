"""The towers of an FCOS head, and the deformable convolutions in them."""

from typing import Literal

from paddle import ParamAttr, Tensor, nn
from paddle.nn.initializer import Constant, Normal
from paddle.regularizer import L2Decay
from paddle.vision.ops import DeformConv2D

from ppdet.core.workspace import register
from ppdet.modeling.layers import Conv2D, fork, make_norm, normalize, sample_deformed


class TowerDeformConv(nn.Layer):
    """A deformable 3x3 convolution of a tower, under the names of published heads."""

    def __init__(self, in_channels: int, out_channels: int, bias: bool) -> None:
        super().__init__()
        undecayed = {"learning_rate": 2.0, "regularizer": L2Decay(0.0), "initializer": Constant(0.0)}
        self.conv_offset = Conv2D(
            in_channels,
            27,
            3,
            padding=1,
            weight_attr=ParamAttr(initializer=Constant(0.0)),
            bias_attr=ParamAttr(**undecayed),
        )
        self.conv_dcn = DeformConv2D(
            in_channels,
            out_channels,
            3,
            padding=1,
            weight_attr=ParamAttr(initializer=Normal(std=0.01)),
            bias_attr=ParamAttr(**undecayed) if bias else False,
        )

    def forward(self, x: Tensor) -> Tensor:
        return sample_deformed(x, self.conv_offset, self.conv_dcn, 9)


class TowerLayer(nn.Layer):
    """A 3x3 convolution, norm and ReLU of a tower."""

    def __init__(self, in_channels: int, out_channels: int, norm_type: str, deformable: bool, bias: bool) -> None:
        super().__init__()
        if deformable:
            self.conv = TowerDeformConv(in_channels, out_channels, bias)
        else:
            self.conv = Conv2D(
                in_channels,
                out_channels,
                3,
                padding=1,
                weight_attr=ParamAttr(initializer=Normal(std=0.01)),
                bias_attr=ParamAttr(learning_rate=2.0, initializer=Constant(0.0)) if bias else False,
            )
        self.norm = make_norm(norm_type, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        return normalize(self.norm, self.conv(x), relu=True)


@register
class FCOSFeat(nn.Layer):
    """The classification and the regression tower.

    Args:
        feat_in, feat_out: channels of the pyramid and of the towers.
        num_convs: layers of each tower. norm_type: bn, sync_bn or gn.
        use_dcn: true makes every convolution deformable, `last` the last one of each tower.
        conv_bias: the convolutions have a bias; those that give a deformable one its offsets always have.
    """

    def __init__(
        self,
        *,
        feat_in: int = 256,
        feat_out: int = 256,
        num_convs: int = 4,
        norm_type: Literal["bn", "sync_bn", "gn"] = "gn",
        use_dcn: bool | Literal["last"] = False,
        conv_bias: bool = True,
    ) -> None:
        super().__init__()
        if use_dcn not in (True, False, "last"):
            raise ValueError(f"FCOSFeat.use_dcn is {use_dcn!r}; it must be true, false or last")
        self.feat_in, self.feat_out = feat_in, feat_out

        def tower(kind: str) -> list[nn.Layer]:
            layers = []
            for i in range(num_convs):
                deformable = i == num_convs - 1 if use_dcn == "last" else use_dcn
                layer = TowerLayer(feat_in if i == 0 else feat_out, feat_out, norm_type, deformable, conv_bias)
                layers.append(self.add_sublayer(f"fcos_head_{kind}_tower_conv_{i}", layer))
            return layers

        self.cls_tower, self.reg_tower = tower("cls"), tower("reg")

    def forward(self, feat: Tensor) -> tuple[Tensor, Tensor]:
        """Map a pyramid level (N, feat_in, H, W) to the two towers' outputs (N, feat_out, H, W)."""
        cls_feat, reg_feat = fork(feat)
        for cls_layer, reg_layer in zip(self.cls_tower, self.reg_tower):
            cls_feat, reg_feat = cls_layer(cls_feat), reg_layer(reg_feat)
        return cls_feat, reg_feat
