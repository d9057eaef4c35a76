"""How to get the data sets that the shipped configurations use."""

from pathlib import Path

COMMANDS = {
    "coco": "python dataset/coco/download_coco.py",
    "bccd": "python dataset/bccd/download_bccd.py",
    "shapes": "ppdet quickstart --data_only",
}


def how_to_get(path: str, otherwise: str) -> str:
    """Return advice for a path that does not exist.

    Args:
        path: a path with a folder named like a data set, such as dataset/coco/annotations/a.json, gives the command
            that fetches this data set. COCO's unlabeled images are not among what its script downloads.
        otherwise: what else the user can do, such as "set TrainDataset.anno_path".
    """
    folders = [part.lower() for part in Path(path).parts]
    command = next((COMMANDS[part] for part in reversed(folders) if part in COMMANDS), None)
    if command is None or any("unlabeled" in part for part in folders):
        return otherwise
    return f"get it with `{command}`, or {otherwise}"
