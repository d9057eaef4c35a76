"""What becomes of every combination of format, precision, size, output and deformable convolutions in an export.

A small detector with random weights is exported for each combination. An export runs each of its files in its engine
(model_tensorrt.onnx in ONNX Runtime) and compares it with the detector, so a combination works if the export ends. The
table has the file's size and its number of operators, and for the others the line that refuses them.
"""

import argparse
import itertools
import json
import logging
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from common import ROOT

EXAMPLES = """examples:
  python benchmarks/export_matrix.py                            # prints the tables (about 4 minutes)
  python benchmarks/export_matrix.py --write docs/FORMATS.md    # replaces those of the page
  python benchmarks/export_matrix.py --format onnx triton       # keeps what the page has of others
"""
PAGE = ROOT / "docs" / "FORMATS.md"
BEGIN, END = "<!-- combinations: begin -->", "<!-- combinations: end -->"

FORMATS = ("paddle", "onnx", "openvino", "tensorrt", "triton")
PRECISIONS = ("fp32", "bf16", "fp16")
# Height and width of the graph's input; the network's stride is 32.
SIZES = {"any size": "null", "96x128": "[3, 96, 128]", "90x130": "[3, 90, 130]"}
OUTPUTS = {
    "detections": ("the whole detector", []),
    "boxes": ("`export.nms: false`", ["export.nms=false"]),
    "maps": ("`export.post_process: false`", ["export.post_process=false"]),
}
CONFIG = """
architecture: FCOS
pretrain_weights: null
num_classes: 2
use_gpu: false
ResNet: {{depth: 18, freeze_at: -1, freeze_norm: false, num_stages: 3, return_idx: [1, 2]}}
FPN: {{out_channel: 32, extra_stage: 1}}
FCOSHead:
  fcos_feat: {{name: FCOSFeat, feat_in: 32, feat_out: 32, num_convs: 1}}
  fpn_stride: [8, 16, 32]
  nms: {{name: MultiClassNMS, keep_top_k: 1000}}  # so that hundreds of detections are compared in 16 bits too
EvalDataset: &data !ImageFolder {{dataset_dir: {data}, anno_path: classes.json}}
TestDataset: *data
TestReader:
  sample_transforms: [Decode: {{}}, Resize: {{target_size: [96, 128]}}, NormalizeImage: {{}}, Permute: {{}}]
  batch_transforms: [PadBatch: {{pad_to_stride: 32}}]
"""


@dataclass(frozen=True)
class Combination:
    """One export: `format` is a format, or "tensorrt" for the target; `size` a key of SIZES; `output` of OUTPUTS."""

    format: str
    precision: str
    size: str
    output: str
    deformable: bool

    def options(self) -> list[str]:
        """Return the settings that it changes, as -o takes them."""
        stages = ["ResNet.dcn_v2_stages=[2]"] if self.deformable else []
        return [f"TestReader.inputs_def.image_shape={SIZES[self.size]}", *OUTPUTS[self.output][1], *stages]

    def formats(self) -> list[str]:
        return [self.format] if self.format in ("onnx", "openvino", "triton") else []

    def target(self) -> str | None:
        return "tensorrt" if self.format == "tensorrt" else None

    def files(self, folder: Path) -> list[Path]:
        """Return the graph and its weights, if they are in a file of their own."""
        half = "_fp16" if self.precision == "fp16" else ""
        graph = next(folder.glob("model.json"), folder / "model.pdmodel")
        names = {
            "paddle": [graph.name, "model.pdiparams"],
            "onnx": [f"model{half}.onnx"],
            "openvino": [f"model{half}.xml", f"model{half}.bin"],
            "tensorrt": ["model_tensorrt.onnx"],
            "triton": ["triton/small/1/model.onnx"],
        }
        return [folder / name for name in names[self.format]]


def combinations() -> list[Combination]:
    """Return all combinations, in the order of the tables."""
    axes = itertools.product(OUTPUTS, FORMATS, PRECISIONS, (False, True), SIZES)
    return [Combination(name, kind, size, output, deformable) for output, name, kind, deformable, size in axes]


def write_config(folder: Path) -> None:
    """Write the names of the classes, and the configuration."""
    classes = {"images": [], "annotations": [], "categories": [{"id": 1, "name": "red"}, {"id": 2, "name": "blue"}]}
    (folder / "classes.json").write_text(json.dumps(classes), encoding="utf-8")
    (folder / "small.yml").write_text(CONFIG.format(data=json.dumps(str(folder))), encoding="utf-8")


def write_weights(folder: Path) -> None:
    """Write weights with and without deformable convolutions, and an image, beside the configuration."""
    import cv2
    import paddle

    from ppdet.core.workspace import load_config
    from ppdet.engine.checkpoints.weights import save_weights
    from ppdet.engine.export.check import drawn_image

    cv2.imwrite(str(folder / "image.png"), drawn_image()[:96, :128])
    for deformable in (False, True):
        options = Combination("paddle", "fp32", "any size", "detections", deformable).options()
        paddle.seed(1)
        model = load_config(folder / "small.yml", options).create("FCOS")
        # With these weights it detects something everywhere.
        for layer, spread in ((model.fcos_head.fcos_head_cls, 0.2), (model.fcos_head.fcos_head_reg, 0.05)):
            layer.weight.set_value(paddle.randn(layer.weight.shape) * spread)
        model.fcos_head.fcos_head_cls.bias.set_value(paddle.zeros([2]))
        save_weights(model.state_dict(), folder / f"{deformable}.pdparams")


def export(combination: Combination, folder: Path, output: Path) -> Path:
    """Export the detector of a folder with configuration and weights to a folder in `output`, and return it.

    Raises:
        UserError: the combination is refused.
    """
    from ppdet.core.workspace import load_config
    from ppdet.engine.export.graph import export_model

    weights = f"weights={folder / f'{combination.deformable}.pdparams'}"
    return export_model(
        load_config(folder / "small.yml", [*combination.options(), weights]),
        output,
        formats=combination.formats(),
        precision=combination.precision,
        check_image=str(folder / "image.png"),
        target=combination.target(),
    )


def outcome(combination: Combination, folder: Path) -> str:
    """Export, and return the size of the files and the number of operators, or else the line that refuses it."""
    from ppdet.utils.errors import UserError

    with tempfile.TemporaryDirectory() as temporary:
        try:
            files = combination.files(export(combination, folder, Path(temporary)))
        except UserError as error:
            return str(error).replace(temporary, "DIR")
        size = sum(file.stat().st_size for file in files) / 1e6
        return f"{size:.2f} MB, {operators(files[0])} operators"


def operators(path: Path) -> int:
    """Return the number of operators of a graph, without weights, constants, and what loops have inside."""
    if path.suffix == ".onnx":
        import onnx

        return sum(node.op_type != "Constant" for node in onnx.load(str(path), load_external_data=False).graph.node)
    if path.suffix == ".xml":
        import openvino

        kinds = [op.get_type_name() for op in openvino.Core().read_model(str(path)).get_ops()]
        return sum(kind not in ("Constant", "Parameter", "Result") for kind in kinds)
    if path.suffix == ".json":
        kinds = [op["#"] for op in json.loads(path.read_bytes())["program"]["regions"][0]["blocks"][0]["ops"]]
        return sum(kind not in ("p", "1.data", "1.fetch", "1.full", "1.full_int_array") for kind in kinds)
    import paddle

    ops = paddle.static.deserialize_program(path.read_bytes()).global_block().ops
    return sum(op.type not in ("feed", "fetch", "fill_constant") for op in ops)


def tables(outcomes: Mapping[Combination, str]) -> str:
    """Return the Markdown: a table for each output, and a numbered list of the lines that refuse combinations.

    Formats with the same outcomes at a precision share their rows.
    """
    lines = list(dict.fromkeys(text for text in outcomes.values() if not works(text)))
    parts = []
    for output, (setting, _) in OUTPUTS.items():
        parts += [f"### {output}: {setting}", "", f"| format | precision | deformable | {' | '.join(SIZES)} |"]
        parts += ["|---|---|---|" + "---|" * len(SIZES)]
        formats: dict[tuple[str, ...], list[str]] = {}
        for name, precision in itertools.product(FORMATS, PRECISIONS):
            formats.setdefault((precision, *rows(outcomes, lines, name, precision, output)), []).append(name)
        parts += [f"| {', '.join(names)} | {key[0]} | {row} |" for key, names in formats.items() for row in key[1:]]
        parts.append("")
    parts += ["### Lines that refuse", ""]
    parts += [f"{number}. `{line}`" for number, line in enumerate(lines, 1)]
    return "\n".join(parts)


def rows(
    outcomes: Mapping[Combination, str], lines: Sequence[str], name: str, precision: str, output: str
) -> list[str]:
    """Return the cells of a format after its precision: one row for both kinds of networks if they are the same."""
    both = []
    for deformable in (False, True):
        texts = [outcomes[Combination(name, precision, size, output, deformable)] for size in SIZES]
        cells = [text if works(text) else f"refused ({lines.index(text) + 1})" for text in texts]
        both.append(" | ".join(cells))
    return [f"both | {both[0]}"] if both[0] == both[1] else [f"without | {both[0]}", f"with | {both[1]}"]


def works(text: str) -> bool:
    """Return whether an outcome is that of an export that was written."""
    return text.endswith(" operators")


def outcomes_of(page: str) -> dict[Combination, str]:
    """Return the outcomes that a page has between its marks; the reverse of `tables`."""
    text = page.partition(BEGIN)[2].partition(END)[0]
    lines = [line.partition(". `")[2][:-1] for line in text.partition("### Lines that refuse")[2].strip().splitlines()]
    found: dict[Combination, str] = {}
    for output, row in rows_of(text.splitlines()):
        names, precision, label, *cells = row
        for size, cell in zip(SIZES, cells, strict=True):
            number = cell.removeprefix("refused (").removesuffix(")")
            value = lines[int(number) - 1] if cell.startswith("refused (") else cell
            kinds = {"both": (False, True), "without": (False,), "with": (True,)}[label]
            for name, deformable in itertools.product(names.split(", "), kinds):
                found[Combination(name, precision, size, output, deformable)] = value
    return found


def rows_of(lines: Iterable[str]) -> Iterator[tuple[str, list[str]]]:
    """Yield the output and the cells of every row of the tables."""
    output = ""
    for line in lines:
        if line.startswith("### "):
            output = line[4:].partition(":")[0]
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if line.startswith("|") and set(cells[0].split(", ")) <= set(FORMATS):
            yield output, cells


def with_tables(page: str, text: str, marks: tuple[str, str] = (BEGIN, END)) -> str:
    """Return the page with this text between its marks.

    Raises:
        ValueError: a mark is missing.
    """
    before, begin, rest = page.partition(marks[0])
    _, end, after = rest.partition(marks[1])
    if not begin or not end:
        raise ValueError(f"expected the marks {marks[0]} and {marks[1]}")
    return f"{before}{begin}\n\n{text}\n\n{end}{after}"


def parse_arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--write", type=Path, metavar="PAGE", help="replace the tables between the page's marks")
    parser.add_argument("--format", nargs="+", choices=FORMATS, default=FORMATS, help="formats to export; default: all")
    return parser.parse_args(argv)


def main() -> None:
    arguments = parse_arguments()
    from ppdet.utils.extras import absent_packages, not_installed

    absent = absent_packages("onnx", "openvino")
    if absent:
        sys.exit(not_installed(absent))
    logging.getLogger("ppdet").setLevel(logging.ERROR)
    page = (arguments.write or PAGE).read_text(encoding="utf-8")
    known = outcomes_of(page)
    outcomes = {combination: known.get(combination, "") for combination in combinations()}
    chosen = [one for one in outcomes if one.format in arguments.format or one not in known]
    with tempfile.TemporaryDirectory() as folder:
        write_config(Path(folder))
        write_weights(Path(folder))
        for number, combination in enumerate(chosen, 1):
            outcomes[combination] = outcome(combination, Path(folder))
            print(f"{number}: {combination}: {outcomes[combination]}", file=sys.stderr, flush=True)
    text = tables(outcomes)
    if arguments.write:
        arguments.write.write_text(with_tables(page, text), encoding="utf-8")
    else:
        print(text)


if __name__ == "__main__":
    main()
