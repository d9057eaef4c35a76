"""The numbers that `ppdet export` is given reach the export."""

import pytest
from noise import write_padded

from ppdet.cli.export import export, parse_arguments


@pytest.mark.parametrize(
    ("numbers", "expected"),
    [([], (300, 0.5)), (["--calibration", "7", "--max_drop", "2"], (7, 2.0))],
)
def test_numbers_for_int8_reach_the_export(tmp_path, monkeypatch, numbers, expected):
    passed = {}
    monkeypatch.setattr("ppdet.engine.export.graph.export_model", lambda *_, **arguments: passed.update(arguments))
    path = str(write_padded(tmp_path, images=1))
    export(parse_arguments(["-c", path, "-o", "weights=w", "--format", "onnx", "--precision", "int8", *numbers]))
    assert (passed["precision"], passed["calibration"], passed["max_drop"]) == ("int8", *expected)
