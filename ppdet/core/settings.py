"""The global settings of a configuration: name, type, default, meaning.

PaddleDetection's files may also set settings that change nothing here, `UnusedSettings`. The log reports such a setting
once if a file gives it another value than the default. Users may add settings of their own whose names start with `x_`.
"""

from typing import Annotated, Any, Literal

from ppdet.core.nested_settings import AUTO_LR, DENSE_TEACHER, EXPORT
from ppdet.core.setting_schema import AtLeast0, AtLeast1, Steps, read_settings
from ppdet.utils.ranges import MAX_CLASSES

UNSET: Any = None  # a default that is none of the setting's values: something else decides where the setting is absent

SLOTS = {
    "TrainDataset": "the data set for training",
    "UnsupTrainDataset": "the unlabeled data set for semi-supervised training",
    "EvalDataset": "the data set for evaluation",
    "TestDataset": "the images for inference, and the class names for inference and export",
}


class GlobalSettings:
    """The global settings with their types and default values; see `read_settings`.

    Attributes:
        architecture: the component that is the whole detector, such as FCOS
        pretrain_weights: URL or path of the weights with which training starts; null: random weights
        weights: URL, or path without suffix, of the weights for evaluation, inference and export
        requires: modules outside this project that must have been imported by --import, an installed package or Python,
            because a YAML file imports nothing; the lists of a file and of its bases are joined
        metric: the metric of evaluation
        eval_metrics: metrics that each evaluation computes besides COCO's numbers: components derived from
            ppdet.metrics.EvalMetric, such as [MyMetric, {name: MyOtherMetric, iou: 0.75}]
        best_by: number of the evaluation by which best_model is chosen, where higher is better, such as AP50
        patience: number of evaluations (with --eval) in a row without a new best number of best_by, after which
            training ends before its last epoch; null: training never ends early
        num_classes: number of object classes, shared by all components that need it
        input_size: [height, width] in pixels, or one number for both, for all resizing transforms without a target_size
        downsample_ratios: stride of each feature level in pixels, finest level first, for the training targets of every
            Gt2FCOSTarget without one of its own. FCOSHead.fpn_stride needs the same value
        object_sizes_boundary: bounds in pixels between these levels, for every Gt2FCOSTarget without some of its own:
            the level of a box follows from its size
        norm_type: normalization layers of all components that share the setting. Where it is not set, each component
            has its own default
        epoch: number of training epochs; null: as many as max_iters requires
        max_iters: training ends after this number of iterations, unless its epochs end earlier. If the
            same file as auto_lr, or one of its bases, sets it, an iteration means base_batch_size images; null: no
            limit besides epoch
        seed: seed of all random numbers
        worker_num: number of worker processes of each reader; 0: the main process reads the images
        worker_start: how worker processes start. fork: as a copy of the running process; spawn: as a new Python, which
            takes about a second; auto: fork on Linux, else spawn
        device: where computations run: cpu, gpu, xpu, npu or another device type of Paddle; gpu:1 selects one device of
            a type; auto: the first available of GPU, XPU, a device with a Paddle plugin, CPU
        use_gpu: false selects the CPU where device is auto
        use_xpu: true selects the device type xpu where device is auto
        use_npu: true selects the device type npu where device is auto
        use_mlu: true selects the device type mlu where device is auto
        use_gcu: true selects the device type gcu where device is auto
        use_onednn: compute layers with oneDNN on a CPU, if that library works
        log_iter: number of iterations between two lines of the training log
        save_dir: folder of all runs; a run writes to <save_dir>/<run name>
        run_name: name of the run and of its folder; null: the name of the YAML file without suffix
        snapshot_epoch: number of epochs between two checkpoints, and between two evaluations with --eval
        snapshot_iters: number of iterations between two checkpoints within an epoch; 0: none within epochs
        keep_checkpoints: every n-th epoch's checkpoint is kept, besides the last two and the best weights; 0: only
            these three
        weights_format: file format of the weights that a run writes; both formats can be read everywhere
        max_bad_steps: training ends with an error after this number of consecutive steps with infinite or NaN gradients
            or statistics; single such steps are skipped
        accumulate_steps: number of batches whose gradients are added up for one update of the weights
        auto_lr: scale LearningRate.base_lr with the number of images per update, if the same file as auto_lr, or one of
            its bases, sets base_lr; null: never scale
        hooks: hooks that training calls after its default ones: components derived from ppdet.engine.hooks.Hook, such
            as [MyHook, {name: MyOtherHook, interval: 10}]
        output_eval: folder for the bbox.json of an evaluation; null: none is written
        save_prediction_only: evaluation only writes the detections, and computes no metric
        export: contents of the exported graph
        find_unused_parameters: in data parallel training, let Paddle search for parameters without gradients in every
            step
        use_ema: keep an exponential moving average (EMA) of the weights, and evaluate it
        ema_decay: decay of the EMA per update, from 0 to below 1; DenseTeacher's teacher is this EMA
        ema_decay_type: decay in update t. normal: ema_decay; threshold: min(ema_decay, (1 + t) / (10 + t));
            exponential: ema_decay * (1 - exp(-(t + 1) / 2000))
        use_simple_ema: like use_ema with ema_decay_type normal
        ema_start_iters: number of iterations before averaging starts, or a share of the run, such as 30%; until then
            the EMA is a copy of the weights
        ema_black_list: parts of names, such as [backbone.conv1]: weights whose name contains one of them are copied,
            not averaged
        ema_filter_no_grad: frozen parameters are copied, not averaged
        use_vdl: write logs for VisualDL, which must be installed
        vdl_log_dir: folder of the VisualDL logs; null: the folder vdl in the run's folder
        use_tensorboard: write TensorBoard logs to the run's folder; the package tensorboardX must be installed
        use_wandb: write files of Weights & Biases to the run's folder; the package wandb must be installed. WANDB_MODE
            in the environment, set to online, sends them to the server
        use_mlflow: write an MLflow database to the run's folder; the package mlflow must be installed.
            MLFLOW_TRACKING_URI in the environment names a server to send them to instead
        use_swanlab: write files of SwanLab to the run's folder; the package swanlab must be installed. SWANLAB_MODE in
            the environment, set to online, sends them to the server
        amp: train in mixed precision; on a CPU in bfloat16, if the processor has instructions for it
        eval_amp: evaluate and infer in mixed precision, also during training; false: evaluate in float32 even with amp
        amp_dtype: the 16-bit type of mixed precision on GPUs and other accelerators; null: bfloat16 if the device
            supports it (GPUs from compute capability 8.0 on), else float16
        amp_level: operations that use the 16-bit type on GPUs and other accelerators. O1: those that profit from it;
            O2: nearly all
        custom_white_list: names of further operations that use the 16-bit type on GPUs and other accelerators
        custom_black_list: names of further operations that stay in float32 on GPUs and other accelerators
        ssod_method: method of semi-supervised training; null: supervised training
        DenseTeacher: options of DenseTeacher
        semi_start_iters: number of the last iteration, counted from 0, that uses labeled images alone, or a share of
            the run, such as 35%
    """

    # the experiment
    architecture: str | None = None
    pretrain_weights: str | None = None
    weights: str | None = None
    requires: list[str] = []
    metric: Literal["COCO"] = "COCO"
    eval_metrics: Annotated[list[Any], {"holds_components": True}] = []
    best_by: str = "AP"
    patience: Annotated[int | None, {"minimum": 1}] = None
    num_classes: Annotated[int, {"minimum": 1, "maximum": MAX_CLASSES}] = 80
    input_size: Annotated[int | list[int] | None, {"is_size": True}] = None
    downsample_ratios: list[int] = UNSET
    object_sizes_boundary: list[int] = UNSET
    norm_type: Literal["bn", "sync_bn", "gn"] = UNSET
    epoch: Annotated[int | None, {"minimum": 1, "maximum": 1_000_000}] = 12
    max_iters: Annotated[int | None, {"minimum": 1}] = None
    seed: AtLeast0 = 0
    worker_num: Annotated[int, {"minimum": 0, "maximum": 512}] = 2
    worker_start: Literal["auto", "fork", "spawn"] = "auto"
    # what a run does and leaves behind
    device: str | int | list[int] = "auto"
    use_gpu: bool = True
    use_xpu: bool = False
    use_npu: bool = False
    use_mlu: bool = False
    use_gcu: bool = False
    use_onednn: bool = True
    log_iter: AtLeast1 = 20
    save_dir: str = "output"
    run_name: Annotated[str | None, {"names_folder": True}] = None
    snapshot_epoch: AtLeast1 = 1
    snapshot_iters: AtLeast0 = 0
    keep_checkpoints: AtLeast0 = 1
    weights_format: Literal["pdparams", "safetensors"] = "pdparams"
    max_bad_steps: AtLeast1 = 10
    accumulate_steps: AtLeast1 = 1
    auto_lr: Annotated[dict[str, Any] | None, {"keys": AUTO_LR}] = None
    hooks: Annotated[list[Any], {"holds_components": True}] = []
    output_eval: str | None = None
    save_prediction_only: bool = False
    export: Annotated[dict[str, Any], {"keys": EXPORT}] = {}
    find_unused_parameters: bool = False
    # average of weights
    use_ema: bool = False
    ema_decay: Annotated[float, {"minimum": 0}] = 0.9998
    ema_decay_type: Literal["threshold", "normal", "exponential"] = "threshold"
    use_simple_ema: bool = False
    ema_start_iters: Steps = 0
    ema_black_list: list[str] | None = None
    ema_filter_no_grad: bool = False
    # logs for other programs
    use_vdl: bool = False
    vdl_log_dir: str | None = None
    use_tensorboard: bool = False
    use_wandb: bool = False
    use_mlflow: bool = False
    use_swanlab: bool = False
    # mixed precision
    amp: bool = False
    eval_amp: bool = False
    amp_dtype: Literal["float16", "bfloat16"] | None = None
    amp_level: Literal["O1", "O2"] = "O1"
    custom_white_list: list[str] | None = None
    custom_black_list: list[str] | None = None
    # semi-supervised training
    ssod_method: Literal["DenseTeacher"] | None = None
    DenseTeacher: Annotated[dict[str, Any], {"keys": DENSE_TEACHER}] = {}
    semi_start_iters: Steps = 0


class UnusedSettings:
    """Settings of PaddleDetection's files that change nothing here, and why they do not.

    Attributes:
        master_grad: the weights, and so their gradients, are float32 at every amp_level
        fleet: several devices train with paddle.DataParallel, which computes the same as fleet
        print_flops: training prints no operation count; ppdet model-info does
        print_params: training prints no parameter count; ppdet model-info does
        uniform_output_enabled: every run writes to one folder of its own
        filename: run_name is the name of a run
        bias: box sizes are x2 - x1, as COCO counts them
        use_meta: the teacher is always built from the student's parameters
        epochs: PaddleDetection's files define it only as a YAML anchor; epoch is the number of epochs
        use_warmup: PaddleDetection's files define it only as a YAML anchor; PiecewiseDecay.use_warmup is the option
    """

    master_grad: bool = False
    fleet: bool = False
    print_flops: bool = False
    print_params: bool = False
    uniform_output_enabled: bool = False
    filename: str | None = None
    bias: int = 0
    use_meta: bool = False
    epochs: int = UNSET
    use_warmup: bool = UNSET


SETTINGS = {**read_settings(GlobalSettings), **read_settings(UnusedSettings, are_used=False)}
FREE_PREFIX = "x_"


def setting_names() -> list[str]:
    """Return the names of all global settings and of the slots for data sets."""
    return [*SETTINGS, *SLOTS]
