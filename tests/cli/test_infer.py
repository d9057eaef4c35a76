"""`ppdet infer` and `ppdet export`: what is refused before the model is loaded."""

import pytest

from ppdet.cli import export, infer


@pytest.mark.parametrize(
    ("command", "arguments"), [(infer, ["output/NAME", "--infer_img", "a.png"]), (export, ["output/NAME"])]
)
@pytest.mark.parametrize("text", [None, "[]", '{"thresholds": {"RBC": 1.5}}'])
def test_a_wrong_file_of_thresholds_is_told_at_once(command, arguments, text, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.png").write_bytes(b"")
    if text is not None:
        (tmp_path / "t.json").write_text(text)

    def loads(arguments):
        raise AssertionError("the libraries are loaded")

    monkeypatch.setattr(command, "load_libraries", loads)
    with pytest.raises(SystemExit):
        command.main([*arguments, "--thresholds", "t.json"])
    assert "t.json: " in capsys.readouterr().err
