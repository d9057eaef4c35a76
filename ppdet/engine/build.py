"""From a configuration to the objects that training, evaluation, prediction and export share."""

from typing import Optional

from paddle import nn

from ppdet.core.config import Config
from ppdet.core.errors import ConfigError
from ppdet.engine import distributed
from ppdet.engine.checkpoint import load_weights


def build_model(cfg: Config, *, weights: Optional[str] = None) -> nn.Layer:
    """The configuration's network, with `weights` (all of them must fit) if given."""
    if not cfg["architecture"]:
        raise ConfigError(f"{cfg.path}: architecture is not set, for example `architecture: FCOS`")
    model = cfg.create(cfg["architecture"])
    if weights:
        load_weights(model, weights, strict=True)
    return model


def build_trained_model(cfg: Config) -> nn.Layer:
    """The network in evaluation mode with the weights that `-o weights=` or the file names."""
    if not cfg["weights"]:
        raise ConfigError(f"{cfg.path}: weights is not set: add -o weights=output/{cfg.name}/model_final")
    model = build_model(cfg, weights=cfg["weights"])
    model.eval()
    return model


def build_dataset(cfg: Config, slot: str) -> object:
    """The data set of a slot such as TrainDataset; its classes must be the model's."""
    if cfg[slot] is None:
        raise ConfigError(f"{cfg.path}: {slot} is not set")
    dataset = cfg.create(slot)
    classes = len(dataset.class_names)
    if classes != cfg["num_classes"] and slot != "TestDataset":
        raise ConfigError(
            f"{dataset.anno_path} has {classes} classes ({', '.join(dataset.class_names[:5])}"
            f"{', …' if classes > 5 else ''}), but num_classes is {cfg['num_classes']}: add -o num_classes={classes}"
        )
    return dataset


def build_reader(cfg: Config, name: str, dataset: object) -> object:
    """TrainReader, EvalReader or TestReader over this rank's share of the data set."""
    return cfg.create(
        name,
        dataset=dataset,
        worker_num=cfg["worker_num"],
        seed=cfg["seed"] or 0,
        rank=distributed.rank(),
        world_size=distributed.world_size(),
    )
