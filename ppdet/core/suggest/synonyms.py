"""What other tools call a setting, and what it is called here."""

import re
from typing import NamedTuple

from ppdet.core.settings import SETTINGS


class Ours(NamedTuple):
    """What some names of other tools are here.

    keys: of the configuration, the first of them the one to set. option: of tools/train.py. note: what else to know.
    scheduler: of LearningRate, which has the parameter; its place in the list is that of most files.
    """

    names: str
    keys: tuple[str, ...] = ()
    option: str = ""
    note: str = ""
    scheduler: str = ""

    def __str__(self) -> str:
        places = [*self.keys[:1], *([f"the option {self.option} of tools/train.py"] if self.option else [])]
        also = f", also {', '.join(self.keys[1:])}" if self.keys[1:] else ""
        here = f"here it is {' or '.join(places)}{also}" if places else "there is none here"
        return f"{here}{f' ({self.note})' if self.note else ''}"


_DATA_DIRS = ("TrainDataset.dataset_dir", "EvalDataset.dataset_dir", "TestDataset.dataset_dir")
_DECAY, _WARMUP = "LearningRate.schedulers.0", "LearningRate.schedulers.1"
_PAIR = "[height, width], where transforms have no target_size of their own"
_EVAL = "with --eval every checkpoint is evaluated"
_AUGMENTATIONS = "TrainReader.sample_transforms lists the transforms"

# Names in lower case; those with dots as their tools write them, else found by their last part too.
TABLE = (
    Ours(
        "imgsz img_size image_size img_scale input_shape test_size min_size_train min_size_test "
        "max_size_train max_size_test max_size min_size",
        ("input_size",),
        note=_PAIR,
    ),
    Ours("multi_scale multiscale", ("TrainReader.sample_transforms",), note="RandomResize draws among sizes"),
    Ours(
        "batch_size batch batchsize bs ims_per_batch samples_per_gpu train_batch_size train_dataloader.batch_size "
        "per_device_train_batch_size",
        ("TrainReader.batch_size", "EvalReader.batch_size"),
        note="of each device; SemiTrainReader.sup_batch_size with ssod_method",
    ),
    Ours("val_batch_size eval_batch_size test.ims_per_batch", ("EvalReader.batch_size",)),
    Ours("lr lr0 learning_rate base_lr initial_lr", ("LearningRate.base_lr",)),
    Ours("lrf min_lr eta_min cos_lr", ("LearningRate.schedulers",), note="CosineDecay.max_epochs and min_lr_ratio"),
    Ours("lr_scheduler lr_scheduler_name scheduler lr_config param_scheduler lr_policy", ("LearningRate.schedulers",)),
    Ours(
        "warmup warmup_steps warmup_iters warmup_epochs warm_up warmup_factor",
        (f"{_WARMUP}.steps",),
        note="or epochs",
        scheduler="LinearWarmup",
    ),
    Ours("milestones lr_step lr_steps lr_schedule steps", (f"{_DECAY}.milestones",), scheduler="PiecewiseDecay"),
    Ours("gamma lr_gamma lr_decay", (f"{_DECAY}.gamma",), scheduler="PiecewiseDecay"),
    Ours("epochs max_epoch max_epochs num_epochs n_epochs num_train_epochs total_epochs", ("epoch",)),
    Ours(
        "max_iter iterations num_iters total_iters train_iters max_steps", ("max_iters",), note="epoch=null beside it"
    ),
    Ours(
        "patience early_stop early_stopping early_stopping_patience",
        note="no early stopping: --eval keeps the best weights as best_model, epoch sets the length",
    ),
    Ours("workers num_workers workers_per_gpu dataloader_num_workers nworkers", ("worker_num",)),
    Ours("data dataset datasets data_root data_dir data_path dataset_dir root_dir root", _DATA_DIRS),
    Ours("datasets.train train train_path train_json train_ann train_file", ("TrainDataset.anno_path",)),
    Ours("datasets.test datasets.val val val_path val_json val_ann val_file test", ("EvalDataset.anno_path",)),
    Ours("image_dir img_dir images img_prefix", ("TrainDataset.image_dir", "EvalDataset.image_dir")),
    Ours("ann_file anno_path annotations", ("TrainDataset.anno_path", "EvalDataset.anno_path")),
    Ours(
        "devices gpu gpus gpu_id gpu_ids cuda use_cuda ngpus num_gpus n_gpu accelerator",
        ("device",),
        note="cpu, gpu, gpu:1, ...; several: python -m paddle.distributed.launch --devices 0,1",
    ),
    Ours("save_path work_dir output_dir output out_dir outdir project log_dir run_dir exp_dir", ("save_dir",)),
    Ours("name exp_name exp experiment experiment_name", ("run_name",)),
    Ours(
        "checkpoint_interval checkpoint_period save_interval save_period save_freq ckpt_interval save_epochs "
        "checkpoint_config checkpoint.interval",
        ("snapshot_epoch",),
    ),
    Ours("max_keep_ckpts save_total_limit keep_checkpoint_max", ("keep_checkpoints",)),
    Ours("eval_interval eval_period val_interval eval_freq evaluation validate", ("snapshot_epoch",), "--eval", _EVAL),
    Ours("optimizer optim optim_wrapper", ("OptimizerBuilder.optimizer",), note="{type: Momentum, momentum: 0.9}"),
    Ours(
        "weight_decay wd l2_decay",
        ("OptimizerBuilder.regularizer.factor",),
        note="of AdamW OptimizerBuilder.optimizer.weight_decay",
    ),
    Ours("momentum", ("OptimizerBuilder.optimizer.momentum",), note="of Momentum; AdamW has beta1"),
    Ours(
        "clip_grad grad_clip max_grad_norm clip_grad_norm gradient_clip_val clip_gradients max_norm",
        ("OptimizerBuilder.clip_grad_by_norm",),
    ),
    Ours(
        "conf conf_thres conf_thresh conf_threshold confidence score_thr score_thres score_thresh score_threshold "
        "confidence_threshold",
        ("FCOSHead.nms.score_threshold",),
        note="what tools/infer.py draws: --draw_threshold",
    ),
    Ours(
        "iou iou_thres iou_thr iou_threshold nms_iou nms_th nms_thr nms_thresh nms_threshold nms_iou_threshold",
        ("FCOSHead.nms.nms_threshold",),
    ),
    Ours("max_det max_dets max_per_img detections_per_image keep_top_k topk", ("FCOSHead.nms.keep_top_k",)),
    Ours(
        "pretrained pretrain pretrained_weights load_from checkpoint ckpt init_checkpoint init_weights finetune "
        "load_weights model.weights model_path",
        ("pretrain_weights",),
        note="training starts from them; weights: what to evaluate, infer with or export",
    ),
    Ours("resume resume_from resume_from_checkpoint resume_path auto_resume", option="--resume"),
    Ours("classes nc num_class n_classes nclasses number_of_classes", ("num_classes",)),
    Ours("names class_names label_list labels", ("TrainDataset.anno_path",), note="the COCO file names its classes"),
    Ours("fp16 bf16 half mixed_precision use_amp amp.enabled", ("amp",), note="amp_dtype: float16 or bfloat16"),
    Ours("ema model_ema", ("use_ema",)),
    Ours("ema_rate ema_momentum model_ema_decay", ("ema_decay",)),
    Ours(
        "accumulate accumulation accumulation_steps gradient_accumulation_steps grad_accum accumulative_counts",
        ("accumulate_steps",),
    ),
    Ours(
        "nbs nominal_batch_size base_batch_size",
        ("auto_lr.base_batch_size",),
        note="images per update that LearningRate.base_lr is for; accumulate_steps adds up batches",
    ),
    Ours(
        "log_interval log_period print_freq print_interval log_freq log_every log_config logger.interval", ("log_iter",)
    ),
    Ours("random_seed manual_seed", ("seed",)),
    Ours("syncbn sync_bn", ("norm_type",), note="norm_type=sync_bn"),
    Ours("model detector", ("architecture",)),
    Ours("backbone", ("FCOS.backbone", "ResNet.depth")),
    Ours("depth resnets.depth", ("ResNet.depth",)),
    Ours("freeze freeze_at frozen_stages", ("ResNet.freeze_at",)),
    Ours("hflip fliplr flip", ("TrainReader.sample_transforms",), note="RandomFlip.prob"),
    Ours("mosaic mixup cutmix copy_paste close_mosaic degrees translate shear flipud", note=_AUGMENTATIONS),
    Ours("augment aug augmentation transforms hsv_h hsv_s hsv_v", ("TrainReader.sample_transforms",)),
    Ours("tensorboard", ("use_tensorboard",)),
    Ours(
        "launcher local_rank", note="several devices: python -m paddle.distributed.launch --gpus 0,1 tools/train.py ..."
    ),
    Ours("no_validate noval", note="training evaluates nothing without --eval"),
    Ours("config_file cfg cfg_file", option="-c"),
    Ours("cache cache_images", note="images are read from disk in every epoch; worker_num reads ahead"),
    Ours("rect", note="every batch is padded to its own largest image"),
    Ours("fraction", ("TrainDataset.sample_num",), note="the first so many images"),
    Ours("single_cls", note="give all annotations of the files one category, and set num_classes=1"),
    Ours("cfg_options opts", option="-o", note="key=value ..."),
    Ours("wandb comet mlflow clearml", note="use_tensorboard and use_vdl write logs"),
)
_BY_NAME = {name: ours for ours in TABLE for name in ours.names.split()}


def synonym(key: str) -> Ours | None:
    """Return what a dotted key of another tool is here, by its last two parts or by its last, imgSize as img_size."""
    written = key.strip("-").replace("-", "_")
    for spelling in (written, re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", written)):
        parts = spelling.lower().split(".")
        for name in (".".join(parts[-2:]), parts[-1]):
            if name in _BY_NAME:
                return _BY_NAME[name]
    last = written.lower().rpartition(".")
    return Ours(key, (last[2],)) if last[0] and last[2] in SETTINGS else None
