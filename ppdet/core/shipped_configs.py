"""The configurations that come with the project, found by name.

In a checkout, and after `pip install -e .`, they are in configs/ beside the package; in an installed package they are
in ppdet/configs.
"""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
CONFIGS = next((path for path in (PACKAGE / "configs", PACKAGE.parent / "configs") if path.is_dir()), PACKAGE)


def shipped_configs() -> dict[str, Path]:
    """Return the file of every experiment by its name, such as fcos_r50_fpn_1x_coco, sorted by folder and name."""
    files = (path for folder in ("fcos", "semi_det") for path in sorted((CONFIGS / folder).rglob("*.yml")))
    return {path.stem: path for path in files if path.parent.name != "_base_"}


def find_config(path: Path) -> Path:
    """Return the shipped file if `path` is the name of one, with or without .yml, and no file exists there."""
    has_folder = path.name != str(path)
    if has_folder or path.is_file():
        return path
    return shipped_configs().get(path.stem if path.suffix in (".yml", ".yaml") else path.name, path)
