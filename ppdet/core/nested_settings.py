"""The entries of the global settings that are mappings: export, DenseTeacher and auto_lr."""

import typing
from typing import Any, Literal

from ppdet.core.schema import Setting

EXPORT = {
    "post_process": Setting(bool, True, "the exported graph decodes boxes and scores"),
    "nms": Setting(bool, True, "the exported graph ends with non-maximum suppression"),
    "benchmark": Setting(bool, False, "export only the network, for measuring its speed: no post-processing, no NMS"),
    "fuse_conv_bn": Setting(bool, False, "fold each batch norm into the convolution before it"),
}

DENSE_TEACHER = {
    "train_cfg": Setting(
        dict[str, Any],
        {},
        "how DenseTeacher trains the student",
        keys={
            "sup_weight": Setting(float, 1.0, "weight of the loss on labelled images", minimum=0),
            "unsup_weight": Setting(float, 1.0, "weight of the loss on unlabelled images", minimum=0),
            "loss_weight": Setting(
                dict[str, Any],
                {},
                "weights of the three parts of the loss on unlabelled images",
                keys={
                    "distill_loss_cls": Setting(float, 4.0, "weight of the classification loss", minimum=0),
                    "distill_loss_box": Setting(float, 1.0, "weight of the box loss", minimum=0),
                    "distill_loss_quality": Setting(float, 1.0, "weight of the quality loss", minimum=0),
                },
            ),
            "concat_sup_data": Setting(
                bool,
                True,
                "true: the strong and the weak views of the labelled images form one batch; "
                "false: they form two batches, whose losses are averaged",
            ),
            "suppress": Setting(
                Literal["linear", "exp", "step"] | None,
                "linear",
                "how the weight of the loss on unlabelled images grows after semi_start_iters; "
                "null: it has its full value at once",
            ),
            "ratio": Setting(
                float,
                0.01,
                "share of all locations that count as foreground: those with the best teacher scores",
                minimum=0,
            ),
            "gamma": Setting(float, 2.0, "exponent of the quality focal loss", minimum=0),
        },
    ),
    "test_cfg": Setting(
        dict[str, Any],
        {},
        "which network is evaluated",
        keys={
            "inference_on": Setting(
                Literal["teacher"],
                "teacher",
                "the network that is evaluated, exported and saved as .pdparams; only the teacher is possible",
            )
        },
    ),
}

ScaledName = Literal["base_lr", "max_iters", "milestones"]
SCALED: tuple[ScaledName, ...] = typing.get_args(ScaledName)  # the values that auto_lr scales

AUTO_LR = {
    "base_batch_size": Setting(
        int,
        16,
        "number of images per update (batch size x devices x accumulate_steps) for which base_lr was tuned",
        minimum=1,
    ),
    "literal": Setting(
        list[ScaledName] | None,
        None,
        "values that auto_lr does not scale, such as [base_lr]; null: those that -o, Python or a file above the one "
        "with auto_lr sets. Set by -o or from Python, the list replaces this rule: [] scales all",
    ),
}
