"""What several checks have in common: a data set, a configuration, a trained detector. Each is made once in a run."""

from collections.abc import Mapping
from pathlib import Path

from ppdet.acceptance.context import Context
from ppdet.core.shipped_configs import CONFIGS

CONFIG = CONFIGS / "fcos" / "fcos_r18_fpn_shapes.yml"  # a small FCOS, trained from scratch
TRAIN_IMAGES, VAL_IMAGES, SIDE = 400, 64, 128
STEPS, QUICK_STEPS = 800, 200  # of the detector's training


def shapes(context: Context) -> Path:
    """Folder of a generated data set: TRAIN_IMAGES and VAL_IMAGES square images with shapes of four classes."""

    def make(folder: Path) -> None:
        from ppdet.data.shapes import generate

        generate(folder, train=TRAIN_IMAGES, val=VAL_IMAGES, size=SIDE, seed=context.seed)

    return context.shared("shapes", make)


def settings(context: Context, name: str) -> dict:
    """Of a run on shapes called `name`, for `config`: where its data are, and where its output goes."""
    data = str(shapes(context))
    slots = ("TrainDataset", "EvalDataset", "TestDataset")
    return {
        **{f"{slot}.dataset_dir": data for slot in slots},
        "save_dir": str(context.work / "runs"),
        "run_name": name,
        "device": context.device,
        "seed": context.seed,
        "worker_num": 0,
    }


def config(context: Context, name: str, more: Mapping = {}, *, base: Path = CONFIG):
    """The configuration of a run on shapes: `base`, with `settings` and then `more` of the caller's over it."""
    from ppdet.core.workspace import load_config

    return load_config(base, {**settings(context, name), **more})


def trained(context: Context) -> Path:
    """Folder of a run, with config.yml and model_final, of a detector that the kit's device trained on shapes."""

    def make(folder: Path) -> None:
        from ppdet.engine.trainer import Trainer

        steps = context.pick(STEPS, QUICK_STEPS)
        cfg = config(context, "detector", {"max_iters": steps, "epoch": None, "save_dir": str(folder)})
        with context.on(context.device):
            Trainer(cfg, overwrite=True).train()

    return context.shared("trained", make) / "detector"
