"""Write docs/MODEL_ZOO.md from configs/zoo.yml: published FCOS detectors, with parameters and FLOPs computed here.

examples:
  {program}             # write the page
  {program} --check     # compare only: exit code 1, and the differences, if the page is out of date
"""

import argparse
import difflib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from ppdet.core.command_line import make_parser, one_line_errors, run
from ppdet.core.config import Config

PAGE = ROOT / "docs" / "MODEL_ZOO.md"
HEIGHT, WIDTH = 800, 1344  # an image of 800x1333, padded to multiples of 32
COLUMNS = ("configuration", "AP", "training", "parameters, M", "GFLOPs", "weights", "reported memory and speed")
HEAD = """<!-- Written by tools/model_zoo.py from configs/zoo.yml: change that file, and run the script again. -->

# Published FCOS detectors

This page lists every FCOS for which one of five code bases has published an AP, and PaddleDetection's recipes with SSLD
weights. Each of them is a configuration of this project:

```bash
ppdet zoo                                                        # the same list
ppdet eval -c fcos_r50_caffe_fpn_gn_1x_coco -o weights=FILE      # evaluate published weights
ppdet train -c fcos_r50_caffe_fpn_gn_1x_coco --eval              # train with the published recipe
```

**AP is the value that the source published for COCO; it was not measured here.** Memory and speed are the source's too,
on its own hardware. Parameters (in millions) and GFLOPs were computed with this code. GFLOPs count the multiply-adds of
the convolutions for one image of 800x1333 pixels, padded to 800x1344. `ppdet model-info -c NAME` shows both for each
part of the network.

In Python:

```python
import ppdet

print(ppdet.zoo.list())
detector = ppdet.zoo.load("fcos_r50_fpn_1x_coco")  # downloads the weights once; weights="FILE" uses others
for index, rows in detector.detect(["street.jpg"]):
    print(rows)  # (M, 6): class, score, x1, y1, x2, y2
```

`weights` and `pretrain_weights` may name `.pth` and `.pkl` files of other code bases. They are converted when they are
loaded, without PyTorch, and no code in them is run. `ppdet convert` writes them as `.pdparams` files
([MIGRATING.md](MIGRATING.md)).

`make parity` compares the feature maps and detections of converted detectors with networks that were written in PyTorch
for this purpose, with the parameter names of each code base. The downloads and COCO have not been tried: neither could
be reached where this project was developed.
"""


def page() -> Iterator[str]:
    """Yield the parts of the page: HEAD, and a section with a table for each source."""
    from ppdet import zoo
    from ppdet.core.shipped_configs import CONFIGS
    from ppdet.core.workspace import load_config

    detectors = zoo.published()
    yield HEAD
    counted: dict[str, tuple[float, float]] = {}
    for source in dict.fromkeys(detector.source for detector in detectors):
        yield f"## {source.name}\n"
        where = f"[Published here]({source.page})" if source.page else "Published without a page of its own"
        yield f"{where}. Hardware: {source.hardware}.\n"
        rows = [COLUMNS]
        for detector in (detector for detector in detectors if detector.source == source):
            cfg = load_config(str(detector.config))
            network = network_of(cfg)
            if network not in counted:
                counted[network] = count(cfg)
            parameters, flops = counted[network]
            link = f"[{detector.name}](../configs/{detector.config.relative_to(CONFIGS).as_posix()})"
            ap = "not published" if detector.ap is None else f"{detector.ap:.1f}"
            weights = f"[{Path(detector.weights).suffix}]({detector.weights})" if detector.weights else ""
            rows.append((link, ap, schedule(cfg), f"{parameters:.2f}", f"{flops:.1f}", weights, detector.reported))
        # The last two columns are left out where no detector of the source fills them.
        kept = [column for column in range(7) if column < 5 or any(row[column] for row in rows[1:])]
        yield table([[row[column] for column in kept] for row in rows]) + "\n"


def network_of(cfg: Config) -> str:
    """Return a text that is equal for networks with the same parameters and FLOPs."""
    head = {key: cfg.component("FCOSHead")[key] for key in ("fcos_feat", "fpn_stride", "num_classes")}
    backbone = {key: value for key, value in cfg.component("ResNet").items() if "freeze" not in key and "lr" not in key}
    return repr((backbone, dict(cfg.component("FPN")), head))


def count(cfg: Config) -> tuple[float, float]:
    """Return the parameters of the network in millions, and its GFLOPs."""
    from ppdet.engine.build import build_model
    from ppdet.engine.model_info import measure

    whole = measure(build_model(cfg), HEIGHT, WIDTH, depth=0)[0]
    return whole.parameters / 1e6, whole.multiplications / 1e9


def schedule(cfg: Config) -> str:
    """Return the length of the training, such as "12 epochs, multi-scale"."""
    length = f"{cfg['epoch']} epochs" if cfg["epoch"] else f"{cfg['max_iters'] // 1000}k steps"
    reader = cfg.component("SemiTrainReader" if cfg["ssod_method"] else "TrainReader")
    is_multi_scale = any("RandomResize" in transform for transform in reader["sample_transforms"])
    return f"{length}, multi-scale" if is_multi_scale else length


def table(rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


def parse_arguments() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, and tell whether the page is up to date")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    with one_line_errors():
        from ppdet.engine.device_choice import choose
        from ppdet.utils.process.paddle_setup import load_paddle

        load_paddle(announce=False)
        choose("cpu", announce=False)  # the numbers are the same on every device
        text = "\n".join(page()).rstrip("\n") + "\n"
        if not arguments.check:
            PAGE.write_text(text, encoding="utf-8")
            print(f"wrote {PAGE.relative_to(ROOT)}")
            return
        before = PAGE.read_text(encoding="utf-8")
        if before != text:
            print("\n".join(difflib.unified_diff(before.splitlines(), text.splitlines(), lineterm="")))
            sys.exit(
                "docs/MODEL_ZOO.md does not agree with configs/zoo.yml and the code: run python tools/model_zoo.py"
            )
        print("docs/MODEL_ZOO.md is up to date")


if __name__ == "__main__":
    run(main)
