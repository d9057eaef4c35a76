"""Errors about names from other tools and PaddleDetection suggest the name used here."""

from pathlib import Path

import pytest

from ppdet.cli import export, train
from ppdet.core.registry import KINDS, components_of, is_component
from ppdet.core.settings import SETTINGS, SLOTS
from ppdet.core.shipped_configs import shipped_configs
from ppdet.core.suggest.paddledetection import FILES, foreign_names
from ppdet.core.suggest.synonyms import synonym, synonyms
from ppdet.core.workspace import load_config, merge_config

ROOT = Path(__file__).resolve().parents[3]
COCO = ROOT / "configs/fcos/fcos_r50_fpn_1x_coco.yml"

# What somebody coming from another tool types, and the setting that does it here.
TYPED = {
    "imgsz=640": "input_size",
    "img_size=640": "input_size",
    "image_size=[640,640]": "input_size",
    "INPUT.MIN_SIZE_TRAIN=800": "input_size",
    "batch=16": "TrainReader.batch_size",
    "batch_size=16": "TrainReader.batch_size",
    "batch-size=16": "TrainReader.batch_size",
    "SOLVER.IMS_PER_BATCH=16": "TrainReader.batch_size",
    "train_dataloader.batch_size=4": "TrainReader.batch_size",
    "lr=0.01": "LearningRate.base_lr",
    "lr0=0.01": "LearningRate.base_lr",
    "learning_rate=0.01": "LearningRate.base_lr",
    "base_lr=0.01": "LearningRate.base_lr",
    "SOLVER.BASE_LR=0.01": "LearningRate.base_lr",
    "optim_wrapper.optimizer.lr=0.01": "LearningRate.base_lr",
    "SOLVER.STEPS=[1,2]": "LearningRate.schedulers.0.milestones",
    "SOLVER.GAMMA=0.1": "LearningRate.schedulers.0.gamma",
    "SOLVER.WARMUP_ITERS=100": "LearningRate.schedulers.1.steps",
    "SOLVER.MAX_ITER=90000": "max_iters",
    "SOLVER.CHECKPOINT_PERIOD=1": "snapshot_epoch",
    "SOLVER.WEIGHT_DECAY=0.1": "OptimizerBuilder.regularizer.factor",
    "max_epoch=3": "epoch",
    "max_epochs=3": "epoch",
    "train_cfg.max_epochs=3": "epoch",
    "workers=4": "worker_num",
    "num_workers=4": "worker_num",
    "DATALOADER.NUM_WORKERS=4": "worker_num",
    "data=coco.yaml": "TrainDataset.dataset_dir",
    "data_root=coco": "TrainDataset.dataset_dir",
    "DATASETS.TRAIN=x": "TrainDataset.anno_path",
    "DATASETS.TEST=x": "EvalDataset.anno_path",
    "devices=0": "use device (cpu, gpu, gpu:1, ...; for several devices run python -m paddle.distributed.launch",
    "gpus=2": "use device",
    "save_path=x": "save_dir",
    "work_dir=x": "save_dir",
    "output_dir=x": "save_dir",
    "OUTPUT_DIR=x": "save_dir",
    "project=x": "save_dir",
    "name=x": "run_name",
    "checkpoint_interval=5": "snapshot_epoch",
    "flipud=0.5": "TrainReader.sample_transforms (RandomVerticalFlip has prob)",
    "degrees=10": "TrainReader.sample_transforms (RandomPerspective, or RandomAffine",
    "mixup=0.1": "TrainReader.sample_transforms (Mosaic, Mixup and Cutmix join images)",
    "augment=true": "use TrainReader.sample_transforms (of training; ppdet eval, infer and detect augment with",
    "tta=true": "there is no such setting here (ppdet eval, infer, detect, serve and batch have the option --tta)",
    "TEST.AUG.ENABLED=true": "have the option --tta",
    "soft_nms=true": "use FCOSHead.nms.name (SoftNMS, which has method and sigma)",
    "copy_paste=0.1": "there is no such setting here (docs/EXTENDING.md shows",
    "eval_interval=5": "snapshot_epoch",
    "optimizer=AdamW": "OptimizerBuilder.optimizer",
    "weight_decay=0.1": "OptimizerBuilder.regularizer.factor",
    "momentum=0.9": "OptimizerBuilder.optimizer.momentum",
    "conf=0.3": "FCOSHead.nms.score_threshold",
    "score_thr=0.3": "FCOSHead.nms.score_threshold",
    "iou=0.6": "FCOSHead.nms.nms_threshold",
    "nms_thresh=0.6": "FCOSHead.nms.nms_threshold",
    "max_dets=100": "FCOSHead.nms.keep_top_k",
    "pretrained=x": "pretrain_weights",
    "load_from=x": "pretrain_weights",
    "MODEL.WEIGHTS=x": "pretrain_weights",
    "resume=true": "--resume",
    "classes=3": "num_classes",
    "nc=3": "num_classes",
    "MODEL.RETINANET.NUM_CLASSES=3": "num_classes",
    "fp16=true": "amp",
    "accumulate=4": "accumulate_steps",
    "early_stopping_patience=10": "use patience (the number of evaluations",
    "epochs=3": "epoch is the number of epochs",
    "val_interval=1": "--eval",
    "LearningRate.lr=1": "LearningRate.base_lr",
    "TrainReader.imgsz=640": "input_size",
    "use_cuda=true": "use device",
    "rect=true": "padded to its largest image",
    "imgSize=640": "use input_size",
    "batchSize=4": "use TrainReader.batch_size",
    "nbs=64": "use auto_lr.base_batch_size",
    "INPUT.MAX_SIZE_TRAIN=1333": "use input_size (",
    "default_hooks.checkpoint.interval=1": "use snapshot_epoch",
    "default_hooks.logger.interval=50": "use log_iter",
    "optim_wrapper.clip_grad.max_norm=1": "use OptimizerBuilder.clip_grad_by_norm",
    "cache=true": "images are read from disk",
    "fraction=0.1": "use TrainDataset.sample_num",
    "single_cls=true": "num_classes=1",
    "TrainDataset.root=x": "use TrainDataset.dataset_dir",
    "EvalDataset.ann_file=x": "EvalDataset.anno_path",
    "ResNet.pretrained=x": "use pretrain_weights",
    "FCOSHead.nms.iou_threshold=0.5": "use FCOSHead.nms.nms_threshold",
}


@pytest.mark.parametrize("text", TYPED)
def test_what_others_call_it(text):
    with pytest.raises(ValueError) as error:
        load_config(COCO, [text])
    key = text.partition("=")[0]
    assert str(error.value).startswith(f"-o: {key}: ") and TYPED[text] in str(error.value)
    assert "\n" not in str(error.value)


def test_every_answer_exists(capsys):
    with pytest.raises(SystemExit):
        train.parse_arguments(["--help"])
    options = capsys.readouterr().out
    config = load_config(COCO)
    rows = {id(row): row for row in synonyms().values()}.values()
    for ours in rows:
        assert ours.keys or ours.option or ours.note
        assert ours.option in options
        for key in ours.keys:
            config.origin(key)
        for name in ours.names.split():
            assert name == name.lower() and synonym(name) is ours, f"{name} stands in two lines"
            taken = name in SETTINGS and not SETTINGS[name].unused
            assert not taken and name not in SLOTS and not is_component(name), f"{name} is a name of ours"


@pytest.mark.parametrize(
    ("option", "hint"),
    [
        (["--lr", "0.1"], "--lr: use LearningRate.base_lr"),
        (["--batch-size=4"], "--batch-size: use TrainReader.batch_size"),
        (["--epochs", "3"], "--epochs: use epoch"),
        (["--epoch", "3"], "--epoch: use -o epoch="),
        (["--cfg-options"], "--cfg-options: use the option -o of ppdet train"),
        (["imgsz=3"], "settings follow -o: -o imgsz=3"),
        (["--patience", "3"], "--patience: use -o patience="),
        (
            ["--launcher", "pytorch"],
            "--launcher: there is no such setting here (for several devices run python -m paddle.distri",
        ),
        (["--no-validate"], "--no-validate: there is no such setting here (training evaluates only with --eval)"),
        (["--config-file", "x"], "--config-file: use the option -c of ppdet train"),
    ],
)
def test_options_of_other_tools(capsys, option, hint):
    with pytest.raises(SystemExit):
        train.parse_arguments(["-c", "x.yml", *option])
    # The value after an unknown option is taken for RUN.
    assert f"unrecognized arguments: {option[0]}; {hint}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "kind", "one"),
    [
        ("architecture=YOLOv3", "architectures", "FCOS"),
        ("architecture=PPYOLOE", "architectures", "FCOS"),
        ("YOLOv3.backbone=x", "architectures", "FCOS"),
        ("FCOS.backbone=MobileNetV3", "backbones", "ResNet"),
        ("FCOS.fcos_head=PPYOLOEHead", "heads", "FCOSHead"),
        ("FCOS.neck=BiFPN", "necks", "FPN"),
        ("FCOSHead.fcos_loss=VarifocalLoss", "losses", "FCOSLoss"),
        ("TrainReader.sample_transforms=[Decode: {}, LetterBoxResize: {}]", "transforms", "RandomResize"),
        ("TrainReader.batch_transforms=[PadGT: {}]", "transforms", "RandomResize"),
        ("TrainDataset=!VOCDataSet {dataset_dir: x}", "data sets", "COCODataSet"),
        ("TrainDataset.name=VOCDataSet", "data sets", "COCODataSet"),
        ("FCOSHead.nms=MatrixNMS", "kinds of NMS", "MultiClassNMS"),
        ("LearningRate.schedulers=[BurninWarmup: {}]", "schedules", "LinearWarmup"),
        ("EvalMOTReader.batch_size=1", "readers", "EvalReader"),
    ],
)
def test_components_that_are_not_here(text, kind, one):
    with pytest.raises(ValueError) as error:
        load_config(COCO, [text])
    said, _, there = str(error.value).partition(f"; {kind} here: ")
    assert f", one of PaddleDetection's {kind}, is not part of this project, which only has FCOS" in said
    assert one in there.partition("; ")[0].split(", ")


def test_no_component_of_ours_is_said_to_be_elsewhere():
    assert foreign_names()[FILES]
    for kind, names in foreign_names().items():
        assert names and not any(is_component(name) for name in names), kind
        assert components_of(kind) or kind not in KINDS


def test_a_file_of_paddledetections_yolo_says_so_first(tmp_path):
    path = tmp_path / "yolo.yml"
    path.write_text("snapshot_epoch: 5\nYOLOv3Head: {loss: YOLOv3Loss}\nsome_word: 1\narchitecture: YOLOv3\n")
    with pytest.raises(ValueError, match=r"yolo\.yml:4: architecture: YOLOv3, one of PaddleDetection's architectures"):
        load_config(path)


@pytest.mark.parametrize("text", ["epochs=3", "filename=x", "print_flops=true", "bias=1", "use_warmup=false"])
def test_settings_without_effect_are_refused_where_somebody_sets_them_now(tmp_path, text):
    with pytest.raises(ValueError, match=rf"^-o: {text.partition('=')[0]}: changes nothing here: "):
        load_config(COCO, [text])
    with pytest.raises(
        ValueError, match=r"^merge_config: epochs: changes nothing here: .* epoch is the number of epochs"
    ):
        merge_config(load_config(COCO), {"epochs": 3})
    path = tmp_path / "mine.yml"
    path.write_text(f"_BASE_: {COCO}\n{text.replace('=', ': ')}\n")
    assert merge_config(load_config(path), {"epoch": 3})["epoch"] == 3, "in a file it is told, and no more"


def test_files_without_their_folder_or_suffix(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    expected = {
        "configs/fcos_r50_fpn_1x_coco.yml": "configs/fcos/fcos_r50_fpn_1x_coco.yml",
        "configs/fcos/fcos_r50_fpn_1x_coco": "configs/fcos/fcos_r50_fpn_1x_coco.yml",
    }
    for given, path in expected.items():
        with pytest.raises(ValueError) as error:
            load_config(given)
        assert str(error.value) == f"{given}: no such file; did you mean {path!r}?"
    monkeypatch.chdir(tmp_path)
    Path("mine.yml").write_text("_BASE_: fcos_r50_fpn_1x_cco.yml\n")
    where = r"\? \(ppdet config --configs lists the shipped ones\)$"
    with pytest.raises(
        ValueError, match=rf"mine\.yml:1: _BASE_: no such file .*; did you mean 'fcos_r50_fpn_1x_coco'{where}"
    ):
        load_config("mine.yml")
    with pytest.raises(ValueError, match=rf"^fcos_r50_fpn_1x_cco: no such file; did you mean .*_1x_coco'{where}"):
        load_config("fcos_r50_fpn_1x_cco")
    with pytest.raises(ValueError, match=r"^mine: no such file; did you mean 'mine\.yml'\?$"):
        load_config("mine")
    with pytest.raises(ValueError, match=r"^output/mine: cannot read file: Is a directory; did you mean "):
        Path("output/mine").mkdir(parents=True)
        Path("output/mine/config.yml").write_text("epoch: 3\n")
        load_config("output/mine")
    with pytest.raises(ValueError, match=r"Is a directory; it contains fcos_dcn_r50_fpn_1x_coco\.yml, .*, …$"):
        load_config(ROOT / "configs/fcos")
    with pytest.raises(ValueError, match=r"^quite_another\.yml: no such file$"):
        load_config("quite_another.yml")


def test_shipped_files_are_found_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert len(shipped_configs()) == len({path.name for path in shipped_configs().values()})
    for name in ("fcos_r50_fpn_1x_coco", "fcos_r50_fpn_1x_coco.yml", "fcos_r50_fpn_1x_coco.yaml", COCO):
        assert load_config(name).path == str(COCO)
    assert load_config("fcos_r18vd_bccd_sup010").path == f"{ROOT}/configs/semi_det/baseline/fcos_r18vd_bccd_sup010.yml"
    Path("mine.yml").write_text("_BASE_: fcos_r50_fpn_1x_coco\nepoch: 3\n")
    assert load_config("mine.yml")["epoch"] == 3 and load_config("mine.yml").name == "mine"
    # A file in the working directory comes first, and is not mistaken for the shipped one.
    Path("fcos_r50_fpn_1x_coco.yml").write_text("epoch: 5\n")
    assert load_config("fcos_r50_fpn_1x_coco.yml")["epoch"] == 5
    with pytest.raises(
        ValueError, match=r"^fcos_r50_fpn_1x_coco: no such file; did you mean 'fcos_r50_fpn_1x_coco.yml'"
    ):
        load_config("fcos_r50_fpn_1x_coco")


@pytest.mark.parametrize(
    "given",
    [
        "configs/yolov3/yolov3_darknet53_270e_coco.yml",
        "configs/faster_rcnn/faster_rcnn_r50_fpn_1x_coco.yml",
        "configs/ppyoloe/_base_/ppyoloe_crn.yml",
        "retinanet_r50_fpn_1x_coco.yml",
        "configs/dino/any.yml",
    ],
)
def test_files_of_other_detectors(given, monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(ValueError) as error:
        load_config(given)
    folders = "configs/fcos and configs/semi_det"
    what = f"this project only has PaddleDetection's FCOS, configured in {folders}"
    assert str(error.value) == f"{given}: no such file; {what}"


def test_the_name_of_a_run_is_a_setting_of_other_commands(capsys):
    with pytest.raises(SystemExit):
        export.parse_arguments(["-c", "x.yml", "--name", "gam"])
    assert "--name: use -o run_name=" in capsys.readouterr().err
