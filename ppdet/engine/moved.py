"""Runs that were moved aside: output/NAME.1, output/NAME.2, … are what output/NAME was before."""

from pathlib import Path
from typing import Optional

from ppdet.engine.manifest import MANIFEST, beside, read_manifest, seal


def earlier_runs(folder: Path) -> list[Path]:
    """What has the name of a run that was moved aside from `folder`, the last one first."""
    start = folder.name + "."
    paths = folder.parent.iterdir() if folder.parent.is_dir() else ()
    endings = {path: path.name[len(start) :] for path in paths if path.name.startswith(start)}
    numbers = {path: int(ending) for path, ending in endings.items() if ending.isascii() and ending.isdigit()}
    return sorted(numbers, key=numbers.__getitem__, reverse=True)


def next_name(output: Path) -> Path:
    """NAME.1, NAME.2, …: the number after the highest that is taken."""
    taken = earlier_runs(output)
    return output.with_name(f"{output.name}.{int(taken[0].name.rpartition('.')[2]) + 1 if taken else 1}")


def files_seal(prefix: Optional[Path]) -> Optional[str]:
    """What tells the content of a checkpoint from that of all others, whatever its name; None if there is none."""
    manifest = prefix and read_manifest(beside(prefix, MANIFEST))
    return seal(manifest["files"]) if manifest else None


def find_checkpoint_again(prefix: Path, files: Optional[str]) -> Optional[Path]:
    """Where the checkpoint that was at `prefix` is now, under another name or in a run that was moved aside.

    `files` is its `files_seal`; with None, whatever has its name is taken for it. None where it has gone.
    """
    if files is None:
        return prefix if beside(prefix, MANIFEST).is_file() else None
    for folder in (prefix.parent, *earlier_runs(prefix.parent)):
        others = sorted(path.with_suffix("") for path in folder.glob(f"*{MANIFEST}"))
        for candidate in (folder / prefix.name, *others):
            if files_seal(candidate) == files:
                return candidate
    return None
