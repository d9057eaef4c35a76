"""From a configuration to the objects that training, evaluation, prediction and export share."""

from pathlib import Path

from paddle import nn

from ppdet.core.config import Config
from ppdet.data.classes import Classes, listed, mismatch
from ppdet.data.sources import COCODataSet, DetectionDataset
from ppdet.engine.checkpoints.class_names import (
    classes_of_local_weights,
    classes_of_weights,
    log_unknown_classes,
    reorder_classes,
    source_of,
)
from ppdet.engine.checkpoints.manifest import WEIGHTS
from ppdet.engine.checkpoints.weights import load_weights
from ppdet.engine.distributed import collectives
from ppdet.engine.runs.run_config import folder_of
from ppdet.engine.training.data_warnings import check_training_data
from ppdet.modeling import cpu
from ppdet.modeling.architectures.base import DenseDetector
from ppdet.utils.disk.download import MissingFileError
from ppdet.utils.errors import ConfigError, DataError


def build_model(cfg: Config, *, weights: str | None = None) -> nn.Layer:
    """The configuration's network, with `weights` (all of them must fit) if given."""
    if not cfg["architecture"]:
        raise ConfigError(f"{cfg.path}: architecture is not set, for example `architecture: FCOS`")
    cpu.set_enabled(cfg["use_onednn"])
    model = cfg.create(cfg["architecture"])
    if weights:
        known = classes_of_local_weights(weights)
        if known and len(known.names) != cfg["num_classes"]:
            count = len(known.names)
            raise ConfigError(
                f"num_classes is {cfg['num_classes']}, but {known.source} tell {count} classes apart "
                f"({listed(known.names)}): set num_classes={count}, and data sets with these classes"
            )
        load_weights(model, weights, strict=True)
        model.trained_classes = known or classes_of_weights(weights)
    return model


def build_trained_model(cfg: Config) -> nn.Layer:
    """The network in evaluation mode with the weights that `-o weights=` or the file names, and their classes."""
    if not cfg["weights"]:
        folder = folder_of(cfg)
        raise ConfigError(
            f"{cfg.path}: weights is not set: add -o weights={folder}/model_final, or name the run's folder, {folder}, "
            "in place of -c"
        )
    try:
        model = build_model(cfg, weights=cfg["weights"])
    except MissingFileError as error:
        raise MissingFileError(f"{error}{of_the_run(cfg)}") from None
    if model.trained_classes is None:
        log_unknown_classes(cfg["weights"])
    model.eval()
    return model


def of_the_run(cfg: Config) -> str:
    """ "; did you mean PATH?", where the run's folder has weights of the name that is sought elsewhere."""
    path = folder_of(cfg) / Path(cfg["weights"]).name
    found = path.is_file() or any(Path(f"{path}{suffix}").is_file() for suffix in WEIGHTS.values())
    return f"; did you mean {path}?" if found else ""


def build_dataset(cfg: Config, slot: str, classes: Classes | None = None) -> DetectionDataset:
    """The data set of a slot such as TrainDataset.

    Args:
        classes: what training is about; the data set's classes are mapped to these by name. None for others: data sets
            to evaluate and detect on follow the weights, where there are some (`class_names.follow`).

    Raises:
        DataError: it has classes of other names, or another number of them than the weights that cfg names.
        ConfigError: it has another number of them than the model.
    """
    if cfg[slot] is None:
        raise ConfigError(f"{cfg.path}: {slot} is not set")
    dataset = cfg.create(slot)
    if classes:
        problem = mismatch(dataset.class_names, source_of(dataset, slot), classes)
        if problem:
            raise DataError(
                f"the classes differ: {problem}: list the same names in the categories of both; not all need boxes"
            )
        reorder_classes(dataset, slot, classes)
        return dataset
    count = len(dataset.class_names)
    # Images to detect on may come without names of classes; names of other classes would be a silent mistake.
    if slot != "UnsupTrainDataset" and count != cfg["num_classes"] and (count or slot != "TestDataset"):
        known = classes_of_local_weights(cfg["weights"]) if slot in ("EvalDataset", "TestDataset") else None
        problem = mismatch(dataset.class_names, source_of(dataset, slot), known) if known else ""
        if problem:
            raise DataError(
                f"the classes differ: {problem}: set {slot}.anno_path to the file that the weights were trained on, or "
                "to one with its names; not all need boxes"
            )
        raise ConfigError(
            f"{slot}: {dataset.anno_path or 'COCO'} has {count} classes ({', '.join(dataset.class_names[:5])}"
            f"{', …' if count > 5 else ''}), but num_classes is {cfg['num_classes']}: set num_classes, or "
            f"{slot}.dataset_dir and {slot}.anno_path"
        )
    return dataset


def build_reader(cfg: Config, name: str, dataset: object, *, share: bool = True, **more: object) -> object:
    """TrainReader, EvalReader, … over this rank's share of the data set, or over all of it; `more` of its arguments."""
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


def build_train_reader(cfg: Config, classes: Classes | None = None) -> object:
    """The reader that training takes: with labels alone, or with unlabelled images beside them.

    Args:
        classes: of the checkpoint that training goes on from; TrainDataset's are mapped to them by name.

    Raises:
        DataError: TrainDataset has other classes, or no box. Warnings tell what looks wrong with it.
    """
    dataset = build_dataset(cfg, "TrainDataset", classes)
    check_training_data(dataset)
    if not cfg["ssod_method"]:
        return build_reader(cfg, "TrainReader", dataset)
    unlabeled = build_dataset(cfg, "UnsupTrainDataset")
    if isinstance(unlabeled, COCODataSet) and getattr(unlabeled, "supervised", True):
        raise ConfigError(
            f"UnsupTrainDataset is a labelled {type(unlabeled).__name__}: make it `!SemiCOCODataSet` with "
            "`supervised: false` and `data_fields: [image]`"
        )
    return build_reader(cfg, "SemiTrainReader", dataset, unlabeled=unlabeled, accumulate_steps=cfg["accumulate_steps"])


def check_targets(model: DenseDetector, reader: object) -> None:
    """Raise ConfigError when the reader makes targets for other locations, or in another unit, than the detector."""
    makers = [t for t in reader.batch_transforms if hasattr(t, "distances_in_strides")]
    if not makers:
        where = "TrainReader.batch_transforms (SemiTrainReader.sup_batch_transforms)"
        raise ConfigError(f"{where}: nothing there makes targets: add Gt2FCOSTarget")
    maker = makers[-1]
    difference = model.locations.difference(maker.locations)
    if not difference and model.distances_in_strides != maker.distances_in_strides:
        setting = "norm_reg_targets (without multiply_strides_reg_targets)"
        difference = setting, model.distances_in_strides, maker.distances_in_strides
    if difference:
        setting, ours, theirs = difference
        raise ConfigError(
            f"{setting} is {ours} in the head, but {theirs} in {type(maker).__name__}: training targets must be made "
            "for the head's locations, so set both to the same value"
        )
