"""Run the notebooks of the documentation from top to bottom, in a kernel and a folder of their own (two minutes).

examples:
  python tests/notebooks.py
  python tests/notebooks.py --write output/notebooks      # keep them with their outputs
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "notebooks"
# Run after the last cell: what a reader is promised.
CHECKS = {
    "quickstart.ipynb": """
assert len(reports) > 10 and reports[-1]["losses"]["loss"] < 0.85 * reports[0]["losses"]["loss"]
assert numbers["AP50"] > 0.3, numbers
assert len(found) == 8 and max(len(rows) for rows in found.values()) > 0
assert len(detections.boxes) > 0
assert abs(found[5][:, 1].max() - detections.scores.max()) < 1e-3, "the export detects something else"
assert (RUN / "best_model.pdparams").is_file() and Path(exported, "infer_cfg.yml").is_file()
""",
}


def run(path: Path, folder: Path) -> nbformat.NotebookNode:
    """Execute all cells of a notebook and its checks in `folder`.

    Raises:
        CellExecutionError: a cell or a check failed; the message has its traceback.
    """
    notebook = nbformat.read(path, as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell(CHECKS[path.name]))
    NotebookClient(notebook, timeout=None, resources={"metadata": {"path": str(folder)}}).execute()
    notebook.cells.pop()
    return notebook


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=Path, metavar="DIR", help="folder for the notebooks with their outputs")
    arguments = parser.parse_args()
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    for path in sorted(FOLDER.glob("*.ipynb")):
        with tempfile.TemporaryDirectory() as folder:
            notebook = run(path, Path(folder))
        print(f"{path.relative_to(ROOT)}: {len(notebook.cells)} cells ran")
        if arguments.write:
            arguments.write.mkdir(parents=True, exist_ok=True)
            nbformat.write(notebook, arguments.write / path.name)


if __name__ == "__main__":
    sys.exit(main())
