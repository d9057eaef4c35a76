"""docs/FORMATS.md agrees with what an export refuses; benchmarks/export_matrix.py makes the page by real exports."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))

import export_matrix
import pytest
import simplifier

from ppdet.core.workspace import load_config
from ppdet.engine.export.refusals import (
    check_formats,
    check_network,
    check_size,
    graph_size,
    origin_of_size,
    stride_of,
)
from ppdet.engine.export.tensorrt_onnx import check_target
from ppdet.engine.export.triton import with_onnx
from ppdet.utils.errors import ConfigError
from ppdet.utils.extras import absent_packages

TEXT = export_matrix.PAGE.read_text(encoding="utf-8")
ON_PAGE = export_matrix.outcomes_of(TEXT)
REFUSED = {value: combination for combination, value in ON_PAGE.items() if not export_matrix.works(value)}


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    """The configuration of every size and kind of network, and the network, without weights of its own."""
    folder = tmp_path_factory.mktemp("matrix")
    export_matrix.write_config(folder)
    found = {}
    for combination in export_matrix.combinations():
        key = combination.size, combination.deformable
        if combination.output == "detections" and key not in found:
            found[key] = load_config(folder / "small.yml", combination.options())
    kinds = {deformable: found["any size", deformable].create("FCOS") for deformable in (False, True)}
    return {key: (cfg, kinds[key[1]]) for key, cfg in found.items()}


def refusal(combination, cfg, network):
    """The line that refuses a combination, or None; the checks stand in the order of `export_model`."""
    reader = cfg.component("TestReader")
    size = graph_size(reader["inputs_def"], origin_of_size(cfg))
    stride = stride_of(network, reader.create("batch_transforms"))
    formats = with_onnx(combination.formats())
    try:
        check_target(combination.target(), 1, combination.output, formats, combination.precision)
        check_formats(formats, combination.precision, combination.output)
        check_size(size, stride, origin_of_size(cfg))
        check_network(network, formats)
    except ConfigError as error:
        return str(error)
    return None


def test_the_page_has_every_combination():
    """If this fails, run `python benchmarks/export_matrix.py --write docs/FORMATS.md`."""
    combinations = export_matrix.combinations()
    assert set(ON_PAGE) == set(combinations) and len(combinations) == 5 * 3 * 3 * 3 * 2
    outcomes = {combination: ON_PAGE[combination] for combination in combinations}
    assert export_matrix.with_tables(TEXT, export_matrix.tables(outcomes)) == TEXT


@pytest.mark.skipif(bool(absent_packages("onnx")), reason="packages of ONNX are not here, which --target needs")
def test_every_cell_is_refused_by_the_line_of_the_page_or_works(networks):
    for combination, value in ON_PAGE.items():
        line = refusal(combination, *networks[combination.size, combination.deformable])
        assert value == line if line else export_matrix.works(value), combination


def test_a_format_without_rows_of_its_own_is_read_back():
    outcomes = {combination: "1.00 MB, 2 operators" for combination in export_matrix.combinations()}
    other = next(one for one in outcomes if one.format == "openvino" and one.precision == "fp16" and one.deformable)
    outcomes[other] = "refused, because"
    text = export_matrix.tables(outcomes)
    assert text.count("paddle, onnx, openvino, tensorrt, triton | fp32 | both |") == 3
    assert (
        "| paddle, onnx, tensorrt, triton | fp16 | both |" in text
        and "| openvino | fp16 | with | refused (1) |" in text
    )
    page = export_matrix.with_tables(f"{export_matrix.BEGIN} old {export_matrix.END}", text)
    assert export_matrix.outcomes_of(page) == outcomes


@pytest.mark.parametrize("line", REFUSED)
def test_lines_are_those_of_an_export_without_weights(line, tmp_path):
    """There are no weights in the folder: what cannot be exported is refused before they are loaded."""
    export_matrix.write_config(tmp_path)
    with pytest.raises(ConfigError) as error:
        export_matrix.export(REFUSED[line], tmp_path, tmp_path / "exported")
    assert str(error.value) == line
    assert not (tmp_path / "exported").exists()


def test_the_table_of_the_simplifier_counts_nodes():
    parser = pytest.importorskip("onnx").parser
    model = parser.parse_model("""<ir_version: 8, opset_import: ["": 17]> small (float[2] x) => (float[2] y)
        { one = Constant <value = float {1.0}> () same = Identity (x) y = Add (same, one) }""")
    lines = simplifier.table({("model.onnx", "before"): model}).splitlines()
    cells = dict(zip(simplifier.HEADER, (cell.strip() for cell in lines[2].strip("|").split("|")), strict=True))
    assert cells == {
        **{"file": "model.onnx", "simplifier": "before", "nodes": "3", "Constant": "1", "Identity": "1"},
        **{"BatchNormalization": "0", "Cast": "0", "MB": "0.0"},
    }
    begin, end = simplifier.MARKS
    on_page = TEXT.partition(begin)[2].partition(end)[0].strip().splitlines()
    assert on_page[:2] == lines[:2]
    assert [line.split(" | ")[1] for line in on_page[2:]] == ["before", "after", "after", "after"]
