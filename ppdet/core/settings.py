"""The global settings of a configuration as a table: name, type, default, meaning.

PaddleDetection's files may also set settings that change nothing here: those have an `unused` reason instead of a
meaning. The log reports such a setting once if a file gives it another value than the default. Users may add settings
of their own whose names start with `x_`.
"""

from typing import Any, Literal

from ppdet.core.nested_settings import AUTO_LR, DENSE_TEACHER, EXPORT
from ppdet.core.schema import Setting

_OTHER_DEVICE = "true selects the device type {} where device is auto"
_ANCHOR = "PaddleDetection's files define it only as a YAML anchor"

SLOTS = {
    "TrainDataset": "the data set for training",
    "UnsupTrainDataset": "the unlabelled data set for semi-supervised training",
    "EvalDataset": "the data set for evaluation",
    "TestDataset": "the images for inference, and the class names for inference and export",
}

SETTINGS = {
    # the experiment
    "architecture": Setting(str | None, None, "the component that is the whole detector, such as FCOS"),
    "pretrain_weights": Setting(
        str | None, None, "URL or path of the weights with which training starts; null: random weights"
    ),
    "weights": Setting(
        str | None, None, "URL, or path without suffix, of the weights for evaluation, inference and export"
    ),
    "requires": Setting(
        list[str],
        [],
        "modules outside this project that must have been imported by --import, an installed package or Python, "
        "because a YAML file imports nothing; the lists of a file and of its bases are joined",
    ),
    "metric": Setting(Literal["COCO"], "COCO", "the metric of evaluation"),
    "eval_metrics": Setting(
        list[Any],
        [],
        "metrics that each evaluation computes besides COCO's numbers: components derived from "
        "ppdet.metrics.EvalMetric, such as [MyMetric, {name: MyOtherMetric, iou: 0.75}]",
        holds_components=True,
    ),
    "best_by": Setting(
        str, "AP", "number of the evaluation by which best_model is chosen, where higher is better, such as AP50"
    ),
    "num_classes": Setting(int, 80, "number of object classes, shared by all components that need it", minimum=1),
    "input_size": Setting(
        int | list[int] | None,
        None,
        "[height, width] in pixels, or one number for both, for all resizing transforms without a target_size",
        is_size=True,
    ),
    "norm_type": Setting(
        Literal["bn", "sync_bn", "gn"],
        None,
        "normalisation layers of all components that share the setting; unset: each component's own default",
    ),
    "epoch": Setting(int | None, 12, "number of training epochs; null: as many as max_iters requires", minimum=1),
    "max_iters": Setting(
        int | None,
        None,
        "training ends after this number of iterations, unless its epochs end earlier. If a file sets it beside or "
        "below auto_lr, an iteration means base_batch_size images; null: no limit besides epoch",
        minimum=1,
    ),
    "seed": Setting(int, 0, "seed of all random numbers", minimum=0),
    "worker_num": Setting(
        int, 2, "number of worker processes of each reader; 0: the main process reads the images", minimum=0
    ),
    "worker_start": Setting(
        Literal["auto", "fork", "spawn"],
        "auto",
        "how worker processes start. fork: as a copy of the running process; spawn: as a new Python, which takes about "
        "a second; auto: fork on Linux, else spawn",
    ),
    # what a run does and leaves behind
    "device": Setting(
        str | int | list[int],
        "auto",
        "where computations run: cpu, gpu, xpu, npu or another device type of Paddle; gpu:1 selects one device of a "
        "type; auto: the first available of GPU, XPU, a device with a Paddle plugin, CPU",
    ),
    "use_gpu": Setting(bool, True, "false selects the CPU where device is auto"),
    "use_xpu": Setting(bool, False, _OTHER_DEVICE.format("xpu")),
    "use_npu": Setting(bool, False, _OTHER_DEVICE.format("npu")),
    "use_mlu": Setting(bool, False, _OTHER_DEVICE.format("mlu")),
    "use_gcu": Setting(bool, False, _OTHER_DEVICE.format("gcu")),
    "use_onednn": Setting(bool, True, "on a CPU, compute layers with oneDNN where that library works"),
    "log_iter": Setting(int, 20, "number of iterations between two lines of the training log", minimum=1),
    "save_dir": Setting(str, "output", "folder of all runs; a run writes to <save_dir>/<run name>"),
    "run_name": Setting(
        str | None,
        None,
        "name of the run and of its folder; null: the name of the YAML file without suffix",
        names_folder=True,
    ),
    "snapshot_epoch": Setting(
        int, 1, "number of epochs between two checkpoints, and between two evaluations with --eval", minimum=1
    ),
    "snapshot_iters": Setting(
        int, 0, "number of iterations between two checkpoints within an epoch; 0: none within epochs", minimum=0
    ),
    "keep_checkpoints": Setting(
        int,
        1,
        "every n-th epoch's checkpoint is kept, besides the last two and the best weights; 0: only these three",
        minimum=0,
    ),
    "weights_format": Setting(
        Literal["pdparams", "safetensors"],
        "pdparams",
        "file format of the weights that a run writes; both formats can be read everywhere",
    ),
    "max_bad_steps": Setting(
        int,
        10,
        "training ends with an error after this number of consecutive steps with infinite or NaN gradients or "
        "statistics; single such steps are skipped",
        minimum=1,
    ),
    "accumulate_steps": Setting(
        int, 1, "number of batches whose gradients are added up for one update of the weights", minimum=1
    ),
    "auto_lr": Setting(
        dict[str, Any] | None,
        None,
        "scale LearningRate.base_lr with the number of images per update, if a file sets base_lr beside or below "
        "auto_lr; null: never scale",
        keys=AUTO_LR,
    ),
    "hooks": Setting(
        list[Any],
        [],
        "hooks that training calls after its default ones: components derived from ppdet.engine.hooks.Hook, such as "
        "[MyHook, {name: MyOtherHook, interval: 10}]",
        holds_components=True,
    ),
    "output_eval": Setting(str | None, None, "folder for the bbox.json of an evaluation; null: none is written"),
    "save_prediction_only": Setting(bool, False, "evaluation only writes the detections, and computes no metric"),
    "export": Setting(dict[str, Any], {}, "contents of the exported graph", keys=EXPORT),
    "find_unused_parameters": Setting(
        bool, False, "in data parallel training, let Paddle search for parameters without gradients in every step"
    ),
    # average of weights
    "use_ema": Setting(bool, False, "keep an exponential moving average (EMA) of the weights, and evaluate it"),
    "ema_decay": Setting(
        float, 0.9998, "decay of the EMA per update, from 0 to below 1; DenseTeacher's teacher is this EMA", minimum=0
    ),
    "ema_decay_type": Setting(
        Literal["threshold", "normal", "exponential"],
        "threshold",
        "decay in update t. normal: ema_decay; threshold: min(ema_decay, (1 + t) / (10 + t)); "
        "exponential: ema_decay * (1 - exp(-(t + 1) / 2000))",
    ),
    "use_simple_ema": Setting(bool, False, "like use_ema with ema_decay_type normal"),
    "ema_start_iters": Setting(
        int, 0, "number of iterations before averaging starts; until then the EMA is a copy of the weights", minimum=0
    ),
    "ema_black_list": Setting(
        list[str] | None,
        None,
        "parts of names, such as [backbone.conv1]: weights whose name contains one of them are copied, not averaged",
    ),
    "ema_filter_no_grad": Setting(bool, False, "frozen parameters are copied, not averaged"),
    # logs for other programs
    "use_vdl": Setting(bool, False, "write logs for VisualDL, which must be installed"),
    "vdl_log_dir": Setting(str | None, None, "folder of the VisualDL logs; null: the folder vdl in the run's folder"),
    "use_tensorboard": Setting(
        bool, False, "write TensorBoard logs to the run's folder; the package tensorboardX must be installed"
    ),
    # mixed precision
    "amp": Setting(
        bool, False, "train in mixed precision; on a CPU in bfloat16, if the processor has instructions for it"
    ),
    "eval_amp": Setting(
        bool,
        False,
        "evaluate and infer in mixed precision, also during training; false: evaluate in float32 even with amp",
    ),
    "amp_dtype": Setting(
        Literal["float16", "bfloat16"] | None,
        None,
        "the 16-bit type of mixed precision on other devices than CPUs; null: bfloat16 if the device supports it (GPUs "
        "from compute capability 8.0 on), else float16",
    ),
    "amp_level": Setting(
        Literal["O1", "O2"],
        "O1",
        "operations that use the 16-bit type on other devices than CPUs. O1: those that profit from it; O2: nearly all",
    ),
    "custom_white_list": Setting(
        list[str] | None, None, "names of further operations that use the 16-bit type on other devices than CPUs"
    ),
    "custom_black_list": Setting(
        list[str] | None, None, "names of further operations that stay in float32 on other devices than CPUs"
    ),
    # semi-supervised training
    "ssod_method": Setting(
        Literal["DenseTeacher"] | None, None, "method of semi-supervised training; null: supervised training"
    ),
    "DenseTeacher": Setting(dict[str, Any], {}, "options of DenseTeacher", keys=DENSE_TEACHER),
    "semi_start_iters": Setting(
        int, 0, "number of iterations of supervised training before unlabelled images are used", minimum=0
    ),
    # settings of PaddleDetection's files that change nothing
    "master_grad": Setting(
        bool, False, "", unused="the weights, and so their gradients, are float32 at every amp_level"
    ),
    "fleet": Setting(
        bool, False, "", unused="several devices train with paddle.DataParallel, which computes the same as fleet"
    ),
    "print_flops": Setting(bool, False, "", unused="training prints no operation count; ppdet model-info does"),
    "print_params": Setting(bool, False, "", unused="training prints no parameter count; ppdet model-info does"),
    "uniform_output_enabled": Setting(bool, False, "", unused="every run writes to one folder of its own"),
    "filename": Setting(str | None, None, "", unused="run_name is the name of a run"),
    "bias": Setting(int, 0, "", unused="box sizes are x2 - x1, as COCO counts them"),
    "use_meta": Setting(bool, False, "", unused="the teacher is always built from the student's parameters"),
    "epochs": Setting(int, None, "", unused=_ANCHOR + "; epoch is the number of epochs"),
    "use_warmup": Setting(bool, None, "", unused=_ANCHOR + "; PiecewiseDecay.use_warmup is the option"),
}

FREE_PREFIX = "x_"


def setting_names() -> list[str]:
    """Return the names of all global settings and of the slots for data sets."""
    return [*SETTINGS, *SLOTS]
