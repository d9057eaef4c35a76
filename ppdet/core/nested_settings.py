"""The entries of the global settings that are mappings: export, DenseTeacher and auto_lr."""

import typing
from typing import Annotated, Any, Literal

from ppdet.core.setting_schema import AtLeast1, read_settings

Weight = Annotated[float, {"minimum": 0}]
ScaledName = Literal["base_lr", "max_iters", "milestones"]
SCALED: tuple[ScaledName, ...] = typing.get_args(ScaledName)  # the values that auto_lr scales


class Export:
    """Content of the setting `export`.

    Attributes:
        post_process: the exported graph decodes boxes and scores
        nms: the exported graph ends with non-maximum suppression
        benchmark: export only the network, for measuring its speed: no post-processing, no NMS
        fuse_conv_bn: fold each batch norm into the convolution before it
    """

    post_process: bool = True
    nms: bool = True
    benchmark: bool = False
    fuse_conv_bn: bool = False


class LossWeight:
    """Content of the setting `DenseTeacher.train_cfg.loss_weight`.

    Attributes:
        distill_loss_cls: weight of the classification loss
        distill_loss_box: weight of the box loss
        distill_loss_quality: weight of the quality loss
    """

    distill_loss_cls: Weight = 4.0
    distill_loss_box: Weight = 1.0
    distill_loss_quality: Weight = 1.0


class TrainCfg:
    """Content of the setting `DenseTeacher.train_cfg`.

    Attributes:
        sup_weight: weight of the loss on labeled images
        unsup_weight: weight of the loss on unlabeled images
        loss_weight: weights of the three parts of the loss on unlabeled images
        concat_sup_data: true: the strong and the weak views of the labeled images form one batch; false: they form two
            batches, whose losses are averaged, as they always do if norm_statistics is not shared
        norm_statistics: the statistics with which the student's batch norms normalize strong views, and whether these
            enter the running statistics, with which the teacher normalizes. shared: the batch's, which do; separate:
            the batch's, which do not; frozen: the running ones, which come from weak views alone
        cutmix_prob: probability of pasting a rectangle of another image of the batch into a strong unlabeled view, and
            the teacher's predictions likewise (CutMix)
        suppress: how the weight of the loss on unlabeled images grows after semi_start_iters; null: it has its full
            value at once
        ratio: share of all locations that count as foreground: those with the best teacher scores. auto: for
            each class, twice its share of positive locations in labeled images, a moving average over about 100 steps
        gamma: exponent of the quality focal loss
    """

    sup_weight: Weight = 1.0
    unsup_weight: Weight = 1.0
    loss_weight: Annotated[dict[str, Any], {"keys": read_settings(LossWeight)}] = {}
    concat_sup_data: bool = True
    norm_statistics: Literal["shared", "separate", "frozen"] = "shared"
    cutmix_prob: Annotated[float, {"minimum": 0, "maximum": 1}] = 0.0
    suppress: Literal["linear", "exp", "step"] | None = "linear"
    ratio: Annotated[float | Literal["auto"], {"minimum": 0}] = 0.01
    gamma: Weight = 2.0


class TestCfg:
    """Content of the setting `DenseTeacher.test_cfg`.

    Attributes:
        inference_on: the network that is evaluated, exported and saved as .pdparams; only the teacher is possible
    """

    inference_on: Literal["teacher"] = "teacher"


class DenseTeacher:
    """Content of the setting `DenseTeacher`.

    Attributes:
        train_cfg: how DenseTeacher trains the student
        test_cfg: which network is evaluated
    """

    train_cfg: Annotated[dict[str, Any], {"keys": read_settings(TrainCfg)}] = {}
    test_cfg: Annotated[dict[str, Any], {"keys": read_settings(TestCfg)}] = {}


class AutoLR:
    """Content of the setting `auto_lr`.

    Attributes:
        base_batch_size: number of images per update (batch size x devices x accumulate_steps) for which base_lr was
            tuned
        literal: values that auto_lr does not scale, such as [base_lr]; null: those that -o, Python or a file above the
            one with auto_lr sets. Set by -o or from Python, the list replaces this rule: [] scales all
    """

    base_batch_size: AtLeast1 = 16
    literal: list[ScaledName] | None = None


EXPORT, DENSE_TEACHER, AUTO_LR = read_settings(Export), read_settings(DenseTeacher), read_settings(AutoLR)
