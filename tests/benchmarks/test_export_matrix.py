"""docs/FORMATS.md agrees with what an export refuses; benchmarks/export_matrix.py makes the page by real exports."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[2] / "benchmarks"))

import export_matrix
import pytest

from ppdet.engine.export.refusals import check_formats
from ppdet.engine.export.tensorrt_onnx import check_target
from ppdet.utils.errors import ConfigError
from ppdet.utils.extras import absent_packages

TEXT = export_matrix.PAGE.read_text(encoding="utf-8")
ON_PAGE = export_matrix.outcomes_of(TEXT)
REFUSED = {value: combination for combination, value in ON_PAGE.items() if not export_matrix.works(value)}


def refusal(combination):
    """The line that refuses a combination for its format, precision and output, or None."""
    try:
        check_formats(combination.formats(), combination.precision, combination.output)
        check_target(combination.target(), 1, combination.output)
    except ConfigError as error:
        return str(error)
    return None


def test_the_page_has_every_combination():
    """If this fails, run `python benchmarks/export_matrix.py --write docs/FORMATS.md`."""
    combinations = export_matrix.combinations()
    assert set(ON_PAGE) == set(combinations) and len(combinations) == 4 * 3 * 3 * 3 * 2
    outcomes = {combination: ON_PAGE[combination] for combination in combinations}
    assert export_matrix.with_tables(TEXT, export_matrix.tables(outcomes)) == TEXT


@pytest.mark.skipif(bool(absent_packages("onnx")), reason="packages of ONNX are not here, which --target needs")
def test_combinations_that_are_refused_by_their_names():
    for combination, value in ON_PAGE.items():
        line = refusal(combination)
        if line is not None:
            assert value == line, combination
        elif combination.size == "90x130":
            assert "multiples of 32" in value, combination
        elif combination.deformable and combination.format == "openvino":
            assert "no deformable convolutions" in value, combination
        else:
            assert export_matrix.works(value), combination


@pytest.mark.parametrize("line", REFUSED)
def test_lines_are_those_of_an_export_without_weights(line, tmp_path):
    """There are no weights in the folder: what cannot be exported is refused before they are loaded."""
    export_matrix.write_config(tmp_path)
    with pytest.raises(ConfigError) as error:
        export_matrix.export(REFUSED[line], tmp_path, tmp_path / "exported")
    assert str(error.value) == line
    assert not (tmp_path / "exported").exists()
