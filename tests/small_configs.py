"""Every configuration with its own settings, but on small images and with a fraction of its channels."""

from pathlib import Path

from ppdet.core.config import Config
from ppdet.core.workspace import load_config
from ppdet.modeling.backbones import resnet

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = [
    *(ROOT / "configs" / "fcos").glob("*.yml"),
    *(ROOT / "configs" / "semi_det" / "baseline").glob("*.yml"),
    *(ROOT / "configs" / "semi_det" / "denseteacher").glob("*.yml"),
]
READERS = ("TrainReader", "SemiTrainReader", "EvalReader", "TestReader")
SMALLER = 8  # sides of images are that many times smaller
NARROWER = 4  # so are the numbers of channels: most of the time would go into random numbers and files
WIDE = ("fcos_r18_fpn_shapes",)  # small enough to be as wide as it is


def smaller(sizes: int | list[int]) -> int | list[int]:
    return [smaller(size) for size in sizes] if isinstance(sizes, list) else max(32, round(sizes / SMALLER))


def narrower(path: Path) -> tuple[tuple[int, ...], list[str]]:
    """Channels of the backbone's stages, for resnet.STAGE_CHANNELS, and the options that go with them."""
    if path.stem in WIDE:
        return resnet.STAGE_CHANNELS, []
    cfg = load_config(str(path))
    # ResNeXt by half: its groups of four channels would be groups of one, which is another kind of convolution.
    factor = 2 if "groups" in cfg.to_dict()["ResNet"] else NARROWER
    channels = max(32, cfg.component("FPN")["out_channel"] // factor)  # 32 groups of group norm need so many
    feature = "FCOSHead.fcos_feat"
    options = [f"FPN.out_channel={channels}", f"{feature}.feat_in={channels}", f"{feature}.feat_out={channels}"]
    return tuple(stage // factor for stage in resnet.STAGE_CHANNELS), options


def overrides(cfg: Config, data: Path, classes: int, output: Path) -> list[str]:
    """The configuration's own settings, but for the data, the sizes of images, and two images per step."""
    options = [f"num_classes={classes}", "pretrain_weights=null", f"save_dir={output}", "worker_num=0", "use_gpu=false"]
    slots = ["TrainDataset", "EvalDataset", *(["UnsupTrainDataset"] if cfg["ssod_method"] else [])]
    for slot in slots:
        options += [f"{slot}.dataset_dir={data}", f"{slot}.image_dir=images", f"{slot}.anno_path=train.json"]
    options += [f"TestDataset.dataset_dir={data}", "TestDataset.anno_path=train.json"]
    options += [f"input_size={smaller(cfg['input_size'])}"] if cfg["input_size"] else []
    for reader in READERS if cfg["ssod_method"] else [r for r in READERS if r != "SemiTrainReader"]:
        settings = cfg.component(reader)
        for name in ("sample_transforms", "batch_transforms", "sup_batch_transforms", "unsup_batch_transforms"):
            for i, transform in enumerate(settings.get(name) or []):
                ((kind, values),) = transform.items()
                for key in ("target_size", "pad_to_size"):
                    if (values or {}).get(key):
                        options.append(f"{reader}.{name}.{i}.{kind}.{key}={smaller(values[key])}")
        options += [
            f"{reader}.{key}=2" for key in ("batch_size", "sup_batch_size", "unsup_batch_size") if key in settings
        ]
    return options
