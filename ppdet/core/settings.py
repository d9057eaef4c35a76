"""The global settings of a configuration as data: name, type, default, meaning.

A setting with `unused` is one that PaddleDetection knows and that changes nothing here; the text says why. Setting it
to anything but its default is told once in the log. Settings that start with `x_` are free for users' own purposes.
"""

from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True)
class Setting:
    """One global setting.

    `minimum` is the least value of a number. `is_size` asks for one or two positive numbers. `keys` are the entries of
    a mapping; their defaults fill what a file leaves out. `names_folder` says that a text becomes a folder's name.
    `holds_components` says that the items of a list are components, which `Config.create` builds.
    """

    annotation: Any
    default: Any
    meaning: str
    unused: str = ""
    minimum: float | None = None
    is_size: bool = False
    keys: dict[str, "Setting"] | None = None
    names_folder: bool = False
    holds_components: bool = False


_OTHER_DEVICE = "true: as device: {}, where device is auto"
_ANCHOR = "existing files use it only as the home of a YAML anchor"

EXPORT = {
    "post_process": Setting(bool, True, "the exported graph decodes boxes and scores"),
    "nms": Setting(bool, True, "the exported graph ends with non-maximum suppression"),
    "benchmark": Setting(bool, False, "export for timing the network: neither post-processing nor NMS"),
    "fuse_conv_bn": Setting(bool, False, "fold batch norms into the convolutions before them"),
}

DENSE_TEACHER = {
    "train_cfg": Setting(
        dict[str, Any],
        {},
        "how the student is trained",
        keys={
            "sup_weight": Setting(float, 1.0, "weight of the loss on labelled images", minimum=0),
            "unsup_weight": Setting(float, 1.0, "weight of the loss on unlabelled images", minimum=0),
            "loss_weight": Setting(
                dict[str, Any],
                {},
                "weights within the loss on unlabelled images",
                keys={
                    "distill_loss_cls": Setting(float, 4.0, "of classes", minimum=0),
                    "distill_loss_box": Setting(float, 1.0, "of boxes", minimum=0),
                    "distill_loss_quality": Setting(float, 1.0, "of quality", minimum=0),
                },
            ),
            "concat_sup_data": Setting(
                bool, True, "strong and weak labelled views make one batch; false: two, whose losses are averaged"
            ),
            "suppress": Setting(
                Literal["linear", "exp", "step"] | None,
                "linear",
                "how the loss on unlabelled images grows after semi_start_iters; null: at once",
            ),
            "ratio": Setting(float, 0.01, "share of all locations that the teacher's scores select", minimum=0),
            "gamma": Setting(float, 2.0, "exponent of the quality focal loss", minimum=0),
        },
    ),
    "test_cfg": Setting(
        dict[str, Any],
        {},
        "what is evaluated",
        keys={
            "inference_on": Setting(
                Literal["teacher"], "teacher", "whose weights are judged, exported and saved as .pdparams"
            )
        },
    ),
}

SCALED = ("base_lr", "max_iters", "milestones")  # what auto_lr scales

AUTO_LR = {
    "base_batch_size": Setting(
        int, 16, "images per update (batch size x devices x accumulate_steps) that base_lr was tuned for", minimum=1
    ),
    "literal": Setting(
        list[Literal[SCALED]] | None,
        None,
        "values that stay as they are, besides the user's own, which a run's config.yml names here; set by -o or from "
        "Python, it alone decides: [] has all of them scaled",
    ),
}

SLOTS = {
    "TrainDataset": "the data set that training reads",
    "UnsupTrainDataset": "the unlabelled data set of semi-supervised training",
    "EvalDataset": "the data set that evaluation reads",
    "TestDataset": "the images, and the class names, of inference and export",
}

SETTINGS = {
    # the experiment
    "architecture": Setting(str | None, None, "the component that is the whole detector, such as FCOS"),
    "pretrain_weights": Setting(str | None, None, "URL or path of the weights training starts from; null: none"),
    "weights": Setting(str | None, None, "weights to evaluate, infer with or export: URL, or path without suffix"),
    "requires": Setting(
        list[str],
        [],
        "modules from outside that must have been imported, by --import, an installed package or Python: a YAML file "
        "imports nothing; those of a file and of its bases add up",
    ),
    "metric": Setting(Literal["COCO"], "COCO", "how detections are judged"),
    "eval_metrics": Setting(
        list[Any],
        [],
        "metrics of your own that each evaluation computes beside COCO's numbers: registered classes derived from "
        "ppdet.metrics.EvalMetric, such as [MyMetric, {name: MyOtherMetric, iou: 0.75}]",
        holds_components=True,
    ),
    "best_by": Setting(
        str, "AP", "the number of the evaluation that chooses best_model, higher being better, such as AP50"
    ),
    "num_classes": Setting(int, 80, "number of object classes, shared by the components that need it", minimum=1),
    "input_size": Setting(
        int | list[int] | None,
        None,
        "[height, width], or one number for both, of all transforms that resize and set no target_size of their own",
        is_size=True,
    ),
    "norm_type": Setting(
        Literal["bn", "sync_bn", "gn"],
        None,
        "normalisation of the components that share it; unset: their own",
    ),
    "epoch": Setting(int | None, 12, "epochs to train; null: as many as max_iters needs", minimum=1),
    "max_iters": Setting(
        int | None,
        None,
        "iterations after which training ends, if its epochs do not end it earlier; with auto_lr, iterations of "
        "base_batch_size images, if a file sets it beside or below auto_lr; null: epochs alone count",
        minimum=1,
    ),
    "seed": Setting(int, 0, "seed of everything random", minimum=0),
    "worker_num": Setting(int, 2, "worker processes of each reader; 0 reads in the main process", minimum=0),
    "worker_start": Setting(
        Literal["auto", "fork", "spawn"],
        "auto",
        "how worker processes start: fork copies the running process, spawn starts a new Python, which takes about a "
        "second; auto: fork on Linux, else spawn",
    ),
    # what a run does and leaves behind
    "device": Setting(
        str | int | list[int],
        "auto",
        "what computes: auto (a GPU if there is one, else an XPU, else a device that Paddle has a plugin for, else the "
        "CPU), cpu, gpu, xpu, npu, or another type that Paddle has; gpu:1 is one device of a type",
    ),
    "use_gpu": Setting(bool, True, "false: as device: cpu, where device is auto"),
    "use_xpu": Setting(bool, False, _OTHER_DEVICE.format("xpu")),
    "use_npu": Setting(bool, False, _OTHER_DEVICE.format("npu")),
    "use_mlu": Setting(bool, False, _OTHER_DEVICE.format("mlu")),
    "use_gcu": Setting(bool, False, _OTHER_DEVICE.format("gcu")),
    "use_onednn": Setting(bool, True, "on a CPU, layers compute with oneDNN where it works"),
    "log_iter": Setting(int, 20, "iterations between two lines of the training log", minimum=1),
    "save_dir": Setting(str, "output", "folder of runs: a run's own folder is <save_dir>/<its name>"),
    "run_name": Setting(
        str | None, None, "name of the run, and of its folder; null: that of the YAML file", names_folder=True
    ),
    "snapshot_epoch": Setting(int, 1, "epochs between two checkpoints (and evaluations, with --eval)", minimum=1),
    "snapshot_iters": Setting(int, 0, "iterations between two checkpoints within an epoch; 0: none", minimum=0),
    "keep_checkpoints": Setting(
        int,
        1,
        "every n-th epoch's checkpoint stays, and always the last two and the best weights; 0: only these",
        minimum=0,
    ),
    "weights_format": Setting(
        Literal["pdparams", "safetensors"], "pdparams", "form in which a run writes weights; both are read everywhere"
    ),
    "max_bad_steps": Setting(
        int, 10, "steps in a row with infinite or undefined gradients or statistics that end a run", minimum=1
    ),
    "accumulate_steps": Setting(int, 1, "batches whose gradients are added up to one update", minimum=1),
    "auto_lr": Setting(
        dict[str, Any] | None,
        None,
        "LearningRate.base_lr follows the images per update, if a file sets it beside or below auto_lr; null: never",
        keys=AUTO_LR,
    ),
    "hooks": Setting(
        list[Any],
        [],
        "hooks of your own that training calls after its default ones: registered classes derived from "
        "ppdet.engine.hooks.Hook, such as [MyHook, {name: MyOtherHook, interval: 10}]",
        holds_components=True,
    ),
    "output_eval": Setting(str | None, None, "folder for bbox.json of an evaluation"),
    "save_prediction_only": Setting(bool, False, "evaluation writes detections and computes no metric"),
    "export": Setting(dict[str, Any], {}, "what the exported graph contains", keys=EXPORT),
    "find_unused_parameters": Setting(bool, False, "let data parallel training look for parameters without gradient"),
    # average of weights
    "use_ema": Setting(bool, False, "keep and evaluate a moving average of the weights"),
    "ema_decay": Setting(
        float, 0.9998, "decay of that average per iteration (of the teacher, in DenseTeacher)", minimum=0
    ),
    "ema_decay_type": Setting(
        Literal["threshold", "normal", "exponential"], "threshold", "how the decay grows at the start"
    ),
    "use_simple_ema": Setting(bool, False, "as use_ema, with the decay normal from the first step on"),
    "ema_start_iters": Setting(int, 0, "iterations before the average starts; it is a copy until then", minimum=0),
    "ema_black_list": Setting(
        list[str] | None, None, "weights that are copied, not averaged: those whose names contain one of these"
    ),
    "ema_filter_no_grad": Setting(bool, False, "frozen parameters are copied, not averaged"),
    # what one sees of a run
    "use_vdl": Setting(bool, False, "write VisualDL logs (needs visualdl)"),
    "vdl_log_dir": Setting(str | None, None, "folder of VisualDL logs; null: vdl in the run's folder"),
    "use_tensorboard": Setting(bool, False, "write TensorBoard logs to the run's folder (needs tensorboardX)"),
    # mixed precision
    "amp": Setting(bool, False, "train in mixed precision; on a CPU bfloat16, where the processor multiplies it"),
    "eval_amp": Setting(
        bool, False, "evaluate and infer in mixed precision, while training too; false: in float32 whatever amp says"
    ),
    "amp_dtype": Setting(
        Literal["float16", "bfloat16"] | None,
        None,
        "the smaller type, not on a CPU; null: bfloat16 where the device has it (GPUs from compute capability 8 on), "
        "else float16",
    ),
    "amp_level": Setting(
        Literal["O1", "O2"], "O1", "not on a CPU; O1: operations that gain by it in the smaller type, O2: nearly all"
    ),
    "custom_white_list": Setting(list[str] | None, None, "further operations of the smaller type, not on a CPU"),
    "custom_black_list": Setting(list[str] | None, None, "further operations that stay in float32, not on a CPU"),
    # semi-supervised training
    "ssod_method": Setting(Literal["DenseTeacher"] | None, None, "semi-supervised method; null: supervised"),
    "DenseTeacher": Setting(dict[str, Any], {}, "train_cfg and test_cfg of DenseTeacher", keys=DENSE_TEACHER),
    "semi_start_iters": Setting(int, 0, "iterations of supervised training before unlabelled images count", minimum=0),
    # accepted, without effect
    "master_grad": Setting(
        bool, False, "", unused="the weights, and so their gradients, are float32 at every amp_level"
    ),
    "fleet": Setting(
        bool, False, "", unused="several devices train by paddle.DataParallel, which computes the same as fleet"
    ),
    "print_flops": Setting(bool, False, "", unused="training prints no operation count"),
    "print_params": Setting(bool, False, "", unused="training prints no parameter count"),
    "uniform_output_enabled": Setting(bool, False, "", unused="outputs always go to one folder per run"),
    "filename": Setting(str | None, None, "", unused="`run_name` names a run"),
    "bias": Setting(int, 0, "", unused="box sizes are x2 - x1, as COCO counts them"),
    "use_meta": Setting(bool, False, "", unused="the teacher is always built from the student's parameters"),
    "epochs": Setting(int, None, "", unused=_ANCHOR + "; `epoch` is what counts"),
    "use_warmup": Setting(bool, None, "", unused=_ANCHOR + "; PiecewiseDecay.use_warmup is what counts"),
}

FREE_PREFIX = "x_"


def setting_names() -> list[str]:
    """Return the names of all global settings, slots included."""
    return [*SETTINGS, *SLOTS]
