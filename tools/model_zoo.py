"""Write docs/MODEL_ZOO.md from configs/zoo.yml: published FCOS detectors, with parameters and FLOPs computed here."""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from ppdet.core.command_line import make_parser, one_line_errors, run

PAGE = ROOT / "docs" / "MODEL_ZOO.md"
HEIGHT, WIDTH = 800, 1344  # an image of 800x1333, padded to multiples of 32
EXAMPLES = """examples:
  python tools/model_zoo.py             # write the page
  python tools/model_zoo.py --check     # exit code 1, and what differs, if the page is not what would be written
"""
HEAD = """<!-- Written by tools/model_zoo.py from configs/zoo.yml: change that, and run it again. -->

# Published FCOS detectors

Every FCOS for which one of five code bases has published an AP, and PaddleDetection's recipes with SSLD weights, as
configurations of this project. **AP is what its source published for COCO, not measured here**; memory and speed as
well, each on the source's own hardware. Parameters (in millions) and GFLOPs (multiply-adds of the convolutions, one
image of 800x1333 padded to 800x1344) are computed with this code: `python tools/model_info.py -c FILE` shows them part
by part.

```python
import ppdet.zoo

print(ppdet.zoo.list())
detector = ppdet.zoo.load("fcos_r50_fpn_1x_coco")  # downloads the weights once; weights="FILE" takes others
for index, rows in detector.detect(["street.jpg"]):
    print(rows)  # (M, 6): class, score, x1, y1, x2, y2
```

`.pth` and `.pkl` files are converted on the way, without PyTorch and without running anything in them, here and
wherever `weights` or `pretrain_weights` name one: `python tools/eval.py -c FILE -o weights=SRC.pth`.
`tools/convert_weights.py` makes `.pdparams` of them ([MIGRATING.md](MIGRATING.md)).

That converted detectors give the original's maps and detections is tested against networks written in PyTorch for that
purpose, with the names of each code base (`make parity`). The downloads themselves, and COCO, were not available where
this was developed.
"""


def page() -> Iterator[str]:
    """The lines of the page."""
    from ppdet import zoo
    from ppdet.core.workspace import load_config

    detectors = zoo.published()
    yield HEAD
    known: dict[str, tuple[float, float]] = {}
    for source in dict.fromkeys(one.source for one in detectors):
        yield f"## {source.name}\n"
        where = f"[Published]({source.page})" if source.page else "Published without a page of its own"
        yield f"{where}; hardware: {source.hardware}.\n"
        rows = [["configuration", "AP", "training", "parameters, M", "GFLOPs", "weights", "theirs"]]
        for one in (one for one in detectors if one.source == source):
            cfg = load_config(str(one.config))
            key = network(cfg)
            if key not in known:
                known[key] = count(cfg)
            parameters, flops = known[key]
            link = f"[{one.name}](../configs/{one.config.relative_to(zoo.CONFIGS).as_posix()})"
            ap = "not published" if one.ap is None else f"{one.ap:.1f}"
            weights = f"[{Path(one.weights).suffix}]({one.weights})" if one.weights else ""
            rows.append([link, ap, schedule(cfg), f"{parameters:.2f}", f"{flops:.1f}", weights, one.theirs])
        if not any(row[-1] for row in rows[1:]):
            rows = [row[:-1] for row in rows]
        if not any(row[5] for row in rows[1:]):
            rows = [[*row[:5], *row[6:]] for row in rows]
        yield table(rows) + "\n"


def network(cfg: object) -> str:
    """What tells networks apart that differ in parameters or FLOPs."""
    head = {key: cfg.component("FCOSHead")[key] for key in ("fcos_feat", "fpn_stride", "num_classes")}
    backbone = {key: value for key, value in cfg.component("ResNet").items() if "freeze" not in key and "lr" not in key}
    return repr((backbone, dict(cfg.component("FPN")), head))


def count(cfg: object) -> tuple[float, float]:
    from ppdet.engine.build import build_model
    from ppdet.engine.model_info import measure

    whole = measure(build_model(cfg), HEIGHT, WIDTH, depth=0)[0]
    return whole.parameters / 1e6, whole.multiplications / 1e9


def schedule(cfg: object) -> str:
    length = f"{cfg['epoch']} epochs" if cfg["epoch"] else f"{cfg['max_iters'] // 1000}k steps"
    return f"{length}, multi-scale" if any("RandomResize" in transform for transform in transforms(cfg)) else length


def transforms(cfg: object) -> Sequence[dict]:
    return cfg.component("SemiTrainReader" if cfg["ssod_method"] else "TrainReader")["sample_transforms"]


def table(rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]])


def parse_arguments() -> argparse.Namespace:
    parser = make_parser(__doc__, EXAMPLES)
    parser.add_argument("--check", action="store_true", help="write nothing; say whether the page is up to date")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    with one_line_errors():
        from ppdet.engine.runtime import choose, load_paddle

        load_paddle(announce=False)
        choose("cpu", announce=False)  # what is counted is the same on every device
        text = "\n".join(page()).rstrip("\n") + "\n"
        if not arguments.check:
            PAGE.write_text(text, encoding="utf-8")
            print(f"wrote {PAGE.relative_to(ROOT)}")
        elif PAGE.read_text(encoding="utf-8") != text:
            import difflib

            lines = difflib.unified_diff(PAGE.read_text(encoding="utf-8").splitlines(), text.splitlines(), lineterm="")
            print("\n".join(lines))
            sys.exit("docs/MODEL_ZOO.md is not what configs/zoo.yml and the code give: run python tools/model_zoo.py")
        else:
            print("docs/MODEL_ZOO.md is up to date")


if __name__ == "__main__":
    run(main)
