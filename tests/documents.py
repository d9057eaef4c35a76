"""The pages of the documentation."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = (".", "docs/**", "dataset", "benchmarks", "deploy/*")
# docs/site has the parts of the site that are no pages by themselves.
PAGES = sorted(
    path for folder in FOLDERS for path in ROOT.glob(f"{folder}/*.md") if path.parent != ROOT / "docs" / "site"
)
