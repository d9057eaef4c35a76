"""The configurations that come with the project, found by name.

In a checkout, and after `pip install -e .`, they are in configs/ beside the package; an installed package has them in
ppdet/configs.
"""

import os
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
CONFIGS = next((path for path in (PACKAGE / "configs", PACKAGE.parent / "configs") if path.is_dir()), PACKAGE)


def shipped_configs() -> dict[str, Path]:
    """Return the file of every experiment by its name, such as fcos_r50_fpn_1x_coco, sorted by folder and name."""
    files = (path for folder in ("fcos", "semi_det") for path in sorted((CONFIGS / folder).rglob("*.yml")))
    return {path.stem: path for path in files if path.parent.name != "_base_"}


def find_config(path: str | Path, folder: Path = Path()) -> Path:
    """Return the file that a path in `folder` names: an existing one, or a shipped one by name, with or without .yml.

    `_base_/p2.yml` names a part that comes with the project, such as the level P2, unless `folder` has one. A path that
    names none of these is returned unchanged. So is a path with other folders in it, and the name of a shipped file
    beside a file of the same name: which of the two is meant would be a guess.
    """
    path = Path(os.path.expanduser(path))  # unlike Path.expanduser, it leaves ~nobody as it is
    part = CONFIGS / "fcos" / path
    if path.parent == Path("_base_") and not os.path.isfile(folder / path) and part.is_file():
        return part
    file, name = folder / path, path.stem if path.suffix in (".yml", ".yaml") else path.name
    if path.parent != Path() or os.path.isfile(file) or os.path.isfile(folder / f"{name}.yml"):
        return file
    return shipped_configs().get(name, file)
