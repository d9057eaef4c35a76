"""Try the commands of an installed wheel in an empty folder: `make wheel-check`.

    python tests/wheel_check.py .venv-wheel/bin/ppdet

A quick start of 20 steps trains, exports, detects and evaluates. Nothing is asked of its numbers.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path


def main(program: str) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}

    def ppdet(*arguments: str) -> str:
        print("ppdet", *arguments, flush=True)
        result = subprocess.run([program, *arguments], env=environment, cwd=folder, capture_output=True, text=True)
        assert result.returncode == 0, result.stdout + result.stderr
        return result.stdout + result.stderr

    with tempfile.TemporaryDirectory() as folder:
        assert ppdet("doctor").startswith("python ")
        assert "fcos_r50_fpn_1x_coco" in ppdet("zoo")
        names = ppdet("config", "--configs").split()
        assert len(names) > 30
        for name in names[::6]:
            assert "architecture: " in ppdet("config", "-c", name)
        text = ppdet("quickstart", "--output", "shapes", "-o", "max_iters=20")
        assert "Exported model: " in text and "maxDets=100 ] = " in text
        shapes = Path(folder) / "shapes"
        exported, images = "output_inference/fcos_r18_fpn_shapes", "dataset/shapes/data/images/val"
        assert {"model.pdiparams", "infer_cfg.yml"} <= {path.name for path in (shapes / exported).iterdir()}
        assert len(list((shapes / images).iterdir())) == 100
        assert (shapes / "output" / "fcos_r18_fpn_shapes" / "pictures" / "bbox.json").is_file()
    print("the wheel works")


if __name__ == "__main__":
    main(sys.argv[1])
