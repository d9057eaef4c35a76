"""From a configuration to the objects that training, evaluation, inference and export share."""

from collections.abc import Callable
from typing import Any

from paddle import nn

from ppdet.core.config import Config
from ppdet.core.contracts import require
from ppdet.data.classes import Classes, mismatch, quote_names
from ppdet.data.loading.reader import BaseReader
from ppdet.data.loading.semi_reader import SemiTrainReader
from ppdet.data.sources import COCODataSet, DetectionDataset, ImageFolder
from ppdet.data.sources.dataset import check_records
from ppdet.engine.checkpoints.class_names import (
    classes_of_local_weights,
    classes_of_weights,
    log_unknown_classes,
    reorder_classes,
    source_of,
)
from ppdet.engine.checkpoints.manifest import strip_suffix, weights_file
from ppdet.engine.checkpoints.weights import load_weights
from ppdet.engine.distributed import collectives
from ppdet.engine.runs.run_config import folder_of
from ppdet.engine.training.data_warnings import check_training_data
from ppdet.modeling import cpu
from ppdet.modeling.architectures.base import DenseDetector
from ppdet.utils.disk.download import MissingFileError
from ppdet.utils.errors import ConfigError, DataError
from ppdet.utils.locations import LEVEL_SETTINGS, SETTINGS

TrainingReader = BaseReader | SemiTrainReader


def build_model(
    cfg: Config, *, weights: str | None = None, check: Callable[[nn.Layer], None] | None = None
) -> nn.Layer:
    """Build the network that `architecture` names, a `DenseDetector`.

    Args:
        weights: a file, a URL, or a path without its suffix; all of its parameters must fit. The network then has the
            attribute `trained_classes`: the `Classes` that the weights were trained on, None if these are unknown.
        check: called with the network before its weights are loaded, to refuse it early.

    Raises:
        ConfigError: `architecture` is not set, its class lacks a member of `DenseDetector`, or the weights have another
            number of classes than num_classes.
        CheckpointError: the weights cannot be read, or do not fit.
    """
    if not cfg["architecture"]:
        raise ConfigError(f"{cfg.path}: architecture is not set, for example `architecture: FCOS`")
    cpu.set_enabled(cfg["use_onednn"])
    model = cfg.create(cfg["architecture"])
    require(model, DenseDetector, "architecture")
    if check is not None:
        check(model)
    if weights:
        classes = classes_of_local_weights(weights)
        if classes and len(classes.names) != cfg["num_classes"]:
            count = len(classes.names)
            raise ConfigError(
                f"num_classes is {cfg['num_classes']}, but {classes.source} have {count} classes "
                f"({quote_names(classes.names)}): set num_classes={count}, and data sets with these classes"
            )
        load_weights(model, weights, strict=True)
        model.trained_classes = classes or classes_of_weights(weights)
    return model


def build_trained_model(cfg: Config, *, check: Callable[[nn.Layer], None] | None = None) -> nn.Layer:
    """Build the network in evaluation mode, with the weights of the setting `weights`.

    Args:
        check: called with the network before its weights are loaded, to refuse it early.

    Raises:
        ConfigError, CheckpointError: `weights` is not set, or see `build_model`.
    """
    if not cfg["weights"]:
        folder = folder_of(cfg)
        raise ConfigError(
            f"{cfg.path}: weights is not set: add -o weights={folder}/model_final, or name the run's folder, {folder}, "
            "in place of -c"
        )
    try:
        model = build_model(cfg, weights=cfg["weights"], check=check)
    except MissingFileError as error:
        own = folder_of(cfg) / cfg["weights"].rpartition("/")[2]
        hint = f"; did you mean {own}?" if weights_file(strip_suffix(str(own))) else ""
        raise MissingFileError(f"{error}{hint}") from None
    if model.trained_classes is None:
        log_unknown_classes(cfg["weights"])
    model.eval()
    return model


def build_dataset(cfg: Config, slot: str, classes: Classes | None = None) -> DetectionDataset:
    """Build a data set, and check that its classes fit the model.

    Args:
        slot: TrainDataset, EvalDataset, TestDataset or UnsupTrainDataset.
        classes: classes of the training run; the data set must have the same names and gets their order. None: the data
            set keeps its order, and `use_classes_of_weights` may change it when weights are loaded.

    Raises:
        DataError: the names of its classes differ from `classes`, or from the classes of the weights.
        ConfigError: it is not set, lacks a member of `DetectionDataset`, or has not num_classes classes.
    """
    if cfg[slot] is None:
        raise ConfigError(f"{cfg.path}: {slot} is not set")
    dataset = cfg.create(slot)
    if not type(dataset).__module__.startswith("ppdet."):
        require(dataset, ImageFolder if slot == "TestDataset" else DetectionDataset, slot)
        if slot != "TestDataset":  # which lists its images only when they are needed
            check_records(dataset, slot)
    if classes:
        problem = mismatch(dataset.class_names, source_of(dataset, slot), classes)
        if problem:
            raise DataError(
                f"the classes differ: {problem}: list the same names in the categories of both; not all need boxes"
            )
        reorder_classes(dataset, slot, classes)
    elif slot == "TestDataset" and not dataset.class_names:
        pass  # images without annotations; the weights define the classes
    elif slot != "UnsupTrainDataset" and len(dataset.class_names) != cfg["num_classes"]:
        raise wrong_class_count(cfg, slot, dataset)
    return dataset


def wrong_class_count(cfg: Config, slot: str, dataset: DetectionDataset) -> Exception:
    """Return the error for a data set whose number of classes is not num_classes."""
    classes = classes_of_local_weights(cfg["weights"]) if slot in ("EvalDataset", "TestDataset") else None
    problem = mismatch(dataset.class_names, source_of(dataset, slot), classes) if classes else ""
    if problem:
        return DataError(
            f"the classes differ: {problem}: set {slot}.anno_path to the file that the weights were trained on, or to "
            "one with its names; not all need boxes"
        )
    count, source = len(dataset.class_names), dataset.anno_path or type(dataset).__name__
    return ConfigError(
        f"{slot}: {source} has {count} classes ({', '.join(dataset.class_names[:5])}"
        f"{', …' if count > 5 else ''}), but num_classes is {cfg['num_classes']}: set num_classes, or "
        f"{slot}.dataset_dir and {slot}.anno_path"
    )


def build_reader(cfg: Config, name: str, dataset: DetectionDataset, *, share: bool = True, **more: Any) -> Any:
    """Build a reader of a data set.

    Args:
        name: TrainReader, EvalReader, TestReader or SemiTrainReader.
        share: read this rank's share of the images; False reads all of them on every rank.
        more: further arguments of the reader's constructor.
    """
    return cfg.create(
        name,
        dataset=dataset,
        **more,
        worker_num=cfg["worker_num"],
        worker_start=cfg["worker_start"],
        seed=cfg["seed"],
        rank=collectives.rank() if share else 0,
        world_size=collectives.world_size() if share else 1,
    )


def build_train_reader(cfg: Config, classes: Classes | None = None) -> TrainingReader:
    """Build the reader for training: TrainReader, or SemiTrainReader with unlabeled images as well.

    Args:
        classes: classes of the checkpoint that is resumed; TrainDataset must have the same names, and gets their order.

    Raises:
        DataError: TrainDataset has other classes, or no boxes. Warnings tell what else looks wrong with it.
        ConfigError: UnsupTrainDataset is a data set with labels.
    """
    dataset = build_dataset(cfg, "TrainDataset", classes)
    check_training_data(dataset)
    if not cfg["ssod_method"]:
        return build_reader(cfg, "TrainReader", dataset)
    unlabeled = build_dataset(cfg, "UnsupTrainDataset")
    if isinstance(unlabeled, COCODataSet) and unlabeled.supervised:
        raise ConfigError(
            f"UnsupTrainDataset is a labeled {type(unlabeled).__name__}: make it `!SemiCOCODataSet` with "
            "`supervised: false` and `data_fields: [image]`"
        )
    return build_reader(cfg, "SemiTrainReader", dataset, unlabeled=unlabeled, accumulate_steps=cfg["accumulate_steps"])


def check_targets(model: DenseDetector, reader: TrainingReader) -> None:
    """Raise ConfigError where the reader makes targets for other locations than the detector's, or in another unit."""
    makers: list[Any] = [t for t in reader.batch_transforms if hasattr(t, "distances_in_strides")]
    if not makers:
        where = "TrainReader.batch_transforms (SemiTrainReader.sup_batch_transforms)"
        raise ConfigError(f"{where}: none of them makes training targets: add Gt2FCOSTarget")
    maker = makers[-1]
    difference = model.locations.difference(maker.locations)
    if not difference and model.distances_in_strides != maker.distances_in_strides:
        setting = "norm_reg_targets (without multiply_strides_reg_targets)"
        difference = setting, model.distances_in_strides, maker.distances_in_strides
    if difference:
        setting, ours, theirs = difference
        advice = LEVEL_SETTINGS if setting == SETTINGS["strides"] else "set both to the same value"
        raise ConfigError(
            f"{setting} is {ours} in {type(model).__name__}, but {theirs} in {type(maker).__name__}: training targets "
            f"must be made for the detector's locations: {advice}"
        )
