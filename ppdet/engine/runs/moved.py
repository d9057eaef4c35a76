"""Runs that were moved aside: output/NAME.1, output/NAME.2, … are what output/NAME was before."""

from pathlib import Path


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
