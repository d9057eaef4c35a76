"""Names of settings and options in other tools (MMDetection, Detectron2, Ultralytics, …), and their names here."""

import re
from typing import NamedTuple

from ppdet.core.settings import SETTINGS


class Synonym(NamedTuple):
    """What some names of other tools mean here.

    Attributes:
        names: names in lower case, separated by spaces. A name with dots is matched as a whole, and any name also as
            the last part of a longer one: "lr" matches "optim_wrapper.optimizer.lr".
        keys: dotted keys of the configuration; the first is the one to set, the others are related.
        option: option of `ppdet train` that does it.
        note: what else the user should know.
        scheduler: the component in LearningRate.schedulers that has the parameter. Its index in `keys` is the one in
            most configurations; the answer names the one in the user's.
    """

    names: str
    keys: tuple[str, ...] = ()
    option: str = ""
    note: str = ""
    scheduler: str = ""

    def __str__(self) -> str:
        places = [*self.keys[:1], *([f"the option {self.option} of ppdet train"] if self.option else [])]
        also = f", also {', '.join(self.keys[1:])}" if self.keys[1:] else ""
        answer = f"use {' or '.join(places)}{also}" if places else "there is no such setting here"
        return f"{answer} ({self.note})" if self.note else answer


_DATA_DIRS = ("TrainDataset.dataset_dir", "EvalDataset.dataset_dir", "TestDataset.dataset_dir")
_DECAY, _WARMUP = "LearningRate.schedulers.0", "LearningRate.schedulers.1"
_SIZE = "[height, width], for all transforms without a target_size"
_EVAL = "with --eval, training evaluates every checkpoint"
_AUGMENTATIONS = "the transforms are listed in TrainReader.sample_transforms"

TABLE = (
    Synonym(
        "imgsz img_size image_size img_scale input_shape test_size min_size_train min_size_test "
        "max_size_train max_size_test max_size min_size",
        ("input_size",),
        note=_SIZE,
    ),
    Synonym(
        "multi_scale multiscale", ("TrainReader.sample_transforms",), note="RandomResize draws one of several sizes"
    ),
    Synonym(
        "batch_size batch batchsize bs ims_per_batch samples_per_gpu train_batch_size train_dataloader.batch_size "
        "per_device_train_batch_size",
        ("TrainReader.batch_size", "EvalReader.batch_size"),
        note="images per device; with ssod_method, SemiTrainReader.sup_batch_size",
    ),
    Synonym("val_batch_size eval_batch_size test.ims_per_batch", ("EvalReader.batch_size",)),
    Synonym("lr lr0 learning_rate base_lr initial_lr", ("LearningRate.base_lr",)),
    Synonym(
        "lrf min_lr eta_min cos_lr", ("LearningRate.schedulers",), note="CosineDecay has max_epochs and min_lr_ratio"
    ),
    Synonym(
        "lr_scheduler lr_scheduler_name scheduler lr_config param_scheduler lr_policy", ("LearningRate.schedulers",)
    ),
    Synonym(
        "warmup warmup_steps warmup_iters warmup_epochs warm_up warmup_factor",
        (f"{_WARMUP}.steps",),
        note="or epochs",
        scheduler="LinearWarmup",
    ),
    Synonym("milestones lr_step lr_steps lr_schedule steps", (f"{_DECAY}.milestones",), scheduler="PiecewiseDecay"),
    Synonym("gamma lr_gamma lr_decay", (f"{_DECAY}.gamma",), scheduler="PiecewiseDecay"),
    Synonym("epochs max_epoch max_epochs num_epochs n_epochs num_train_epochs total_epochs", ("epoch",)),
    Synonym(
        "max_iter iterations num_iters total_iters train_iters max_steps",
        ("max_iters",),
        note="together with epoch=null",
    ),
    Synonym(
        "patience early_stop early_stopping early_stopping_patience",
        note="training never stops early; with --eval it keeps the best weights as best_model, and epoch is its length",
    ),
    Synonym("workers num_workers workers_per_gpu dataloader_num_workers nworkers", ("worker_num",)),
    Synonym("data dataset datasets data_root data_dir data_path dataset_dir root_dir root", _DATA_DIRS),
    Synonym("datasets.train train train_path train_json train_ann train_file", ("TrainDataset.anno_path",)),
    Synonym("datasets.test datasets.val val val_path val_json val_ann val_file test", ("EvalDataset.anno_path",)),
    Synonym("image_dir img_dir images img_prefix", ("TrainDataset.image_dir", "EvalDataset.image_dir")),
    Synonym("ann_file anno_path annotations", ("TrainDataset.anno_path", "EvalDataset.anno_path")),
    Synonym(
        "devices gpu gpus gpu_id gpu_ids cuda use_cuda ngpus num_gpus n_gpu accelerator",
        ("device",),
        note="cpu, gpu, gpu:1, ...; for several devices run python -m paddle.distributed.launch --devices 0,1",
    ),
    Synonym("save_path work_dir output_dir output out_dir outdir project log_dir run_dir exp_dir", ("save_dir",)),
    Synonym("name exp_name exp experiment experiment_name", ("run_name",)),
    Synonym(
        "checkpoint_interval checkpoint_period save_interval save_period save_freq ckpt_interval save_epochs "
        "checkpoint_config checkpoint.interval",
        ("snapshot_epoch",),
    ),
    Synonym("max_keep_ckpts save_total_limit keep_checkpoint_max", ("keep_checkpoints",)),
    Synonym(
        "eval_interval eval_period val_interval eval_freq evaluation validate", ("snapshot_epoch",), "--eval", _EVAL
    ),
    Synonym("optimizer optim optim_wrapper", ("OptimizerBuilder.optimizer",), note="{type: Momentum, momentum: 0.9}"),
    Synonym(
        "weight_decay wd l2_decay",
        ("OptimizerBuilder.regularizer.factor",),
        note="with AdamW, OptimizerBuilder.optimizer.weight_decay",
    ),
    Synonym("momentum", ("OptimizerBuilder.optimizer.momentum",), note="of Momentum; AdamW has beta1 instead"),
    Synonym(
        "clip_grad grad_clip max_grad_norm clip_grad_norm gradient_clip_val clip_gradients max_norm",
        ("OptimizerBuilder.clip_grad_by_norm",),
    ),
    Synonym(
        "conf conf_thres conf_thresh conf_threshold confidence score_thr score_thres score_thresh score_threshold "
        "confidence_threshold",
        ("FCOSHead.nms.score_threshold",),
        note="ppdet infer draws boxes from --draw_threshold on",
    ),
    Synonym(
        "iou iou_thres iou_thr iou_threshold nms_iou nms_th nms_thr nms_thresh nms_threshold nms_iou_threshold",
        ("FCOSHead.nms.nms_threshold",),
    ),
    Synonym("max_det max_dets max_per_img detections_per_image keep_top_k topk", ("FCOSHead.nms.keep_top_k",)),
    Synonym(
        "pretrained pretrain pretrained_weights load_from checkpoint ckpt init_checkpoint init_weights finetune "
        "load_weights model.weights model_path",
        ("pretrain_weights",),
        note="the weights with which training starts; the setting weights is for evaluation, inference and export",
    ),
    Synonym("resume resume_from resume_from_checkpoint resume_path auto_resume", option="--resume"),
    Synonym("classes nc num_class n_classes nclasses number_of_classes", ("num_classes",)),
    Synonym(
        "names class_names label_list labels",
        ("TrainDataset.anno_path",),
        note="the annotation file contains the names of the classes",
    ),
    Synonym("fp16 bf16 half mixed_precision use_amp amp.enabled", ("amp",), note="amp_dtype is float16 or bfloat16"),
    Synonym("ema model_ema", ("use_ema",)),
    Synonym("ema_rate ema_momentum model_ema_decay", ("ema_decay",)),
    Synonym(
        "accumulate accumulation accumulation_steps gradient_accumulation_steps grad_accum accumulative_counts",
        ("accumulate_steps",),
    ),
    Synonym(
        "nbs nominal_batch_size base_batch_size",
        ("auto_lr.base_batch_size",),
        note="images per update for which LearningRate.base_lr was tuned; accumulate_steps adds up batches",
    ),
    Synonym(
        "log_interval log_period print_freq print_interval log_freq log_every log_config logger.interval", ("log_iter",)
    ),
    Synonym("random_seed manual_seed", ("seed",)),
    Synonym("syncbn sync_bn", ("norm_type",), note="norm_type=sync_bn"),
    Synonym("model detector", ("architecture",)),
    Synonym("backbone", ("FCOS.backbone", "ResNet.depth")),
    Synonym("depth resnets.depth", ("ResNet.depth",)),
    Synonym("freeze freeze_at frozen_stages", ("ResNet.freeze_at",)),
    Synonym("hflip fliplr flip", ("TrainReader.sample_transforms",), note="RandomFlip has prob"),
    Synonym("mosaic mixup cutmix copy_paste close_mosaic degrees translate shear flipud", note=_AUGMENTATIONS),
    Synonym("augment aug augmentation transforms hsv_h hsv_s hsv_v", ("TrainReader.sample_transforms",)),
    Synonym("tensorboard", ("use_tensorboard",)),
    Synonym("launcher local_rank", note="for several devices run python -m paddle.distributed.launch --devices 0,1"),
    Synonym("no_validate noval", note="training evaluates only with --eval"),
    Synonym("config_file cfg cfg_file", option="-c"),
    Synonym(
        "cache cache_images", note="images are read from disk in every epoch, ahead of time by worker_num processes"
    ),
    Synonym("rect", note="every batch is always padded to its largest image"),
    Synonym("fraction", ("TrainDataset.sample_num",), note="number of images that are used, from the first on"),
    Synonym("single_cls", note="give all annotations the same category_id in the files, and set num_classes=1"),
    Synonym("cfg_options opts", option="-o", note="key=value ..."),
    Synonym("wandb comet mlflow clearml", note="use_tensorboard and use_vdl write logs for TensorBoard and VisualDL"),
)
_BY_NAME = {name: row for row in TABLE for name in row.names.split()}


def synonym(key: str) -> Synonym | None:
    """Return what a name or dotted key of another tool means here; None if it is unknown.

    Its last two parts are looked up first, then its last one; imgSize is looked up as img_size too.
    """
    written = key.strip("-").replace("-", "_")
    for spelling in (written, re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", written)):
        parts = spelling.lower().split(".")
        for name in (".".join(parts[-2:]), parts[-1]):
            if name in _BY_NAME:
                return _BY_NAME[name]
    last = written.lower().rpartition(".")
    return Synonym(key, (last[2],)) if last[0] and last[2] in SETTINGS else None
