"""How to get the data sets that the shipped configurations name."""

from pathlib import Path

COMMANDS = {
    "coco": "python dataset/coco/download_coco.py",
    "bccd": "python dataset/bccd/download_bccd.py",
    "shapes": "python dataset/shapes/generate.py",
}


def how_to_get(path: str, otherwise: str) -> str:
    """Advice for a `path` that is not there: the command that makes it, in a folder called as one of the data sets.

    `otherwise` is what else to do, or all there is to do. COCO's unlabelled images are no part of what its script
    downloads.
    """
    folders = [part.lower() for part in Path(path).parts]
    command = next((COMMANDS[part] for part in reversed(folders) if part in COMMANDS), None)
    if command is None or any("unlabeled" in part for part in folders):
        return otherwise
    return f"get it with `{command}`, or {otherwise}"
