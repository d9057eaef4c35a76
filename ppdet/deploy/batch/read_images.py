"""How a worker of a batch job reads the images of its task: from files, from object storage, or from Parquet rows."""

from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import repeat
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from ppdet.deploy.batch.inputs import column_array, open_parquet
from ppdet.deploy.batch.storage import require_scheme
from ppdet.utils.disk.images import LONGEST_PATH
from ppdet.utils.disk.object_storage import is_local, is_url, locate, open_storage, read_file, shortened
from ppdet.utils.errors import UserError

LARGEST_IMAGE = 2**30  # bytes of an image file from object storage or from a table
# Files that are fetched from object storage at the same time, because each answer takes a while.
READERS = 16


class Item(NamedTuple):
    """One image of a task.

    name: what the input calls it. path: its path or URL. image: a path or the bytes of an image file, for
    `Detector.prepare`; None if it cannot be read, and then `error` says why in one line.
    """

    name: str
    path: str
    image: str | bytes | None
    error: str | None = None


def read_items(task: dict) -> Iterator[Item]:
    """Yield the images of a task (see `inputs.ImagePaths.task` and `inputs.EncodedImages.task`) in order."""
    if "names" not in task:
        yield from read_rows(task)
        return
    names = task["names"]
    with ThreadPoolExecutor(READERS) as readers:
        for start in range(0, len(names), READERS):
            yield from readers.map(partial(read_item, task["root"], task["schemes"]), names[start : start + READERS])


def item_names(task: dict) -> list[tuple[str, str]]:
    """Name and path of each image of a task, without reading anything: in tables, each name is FILE#ROW."""
    if "names" in task:
        return [(name, locate(task["root"], name) if name else "") for name in task["names"]]
    pieces = task["pieces"]
    return [(f"{PurePosixPath(url).name}#{i}", f"{url}#{i}") for url, start, stop in pieces for i in range(start, stop)]


def read_item(root: str, schemes: Collection[str], name: str) -> Item:
    """A file on a disk is left for Detector to read; a file in object storage is fetched."""
    if not name:
        return Item(name, "", None, "no path (null or empty)")
    path = locate(root, name)
    if not is_url(path):
        return Item(name, path, path)
    try:
        if is_url(name):
            require_scheme(name, schemes)
        fs, inner = open_storage(path)
        return Item(name, path, inner if is_local(fs) else read_file(fs, inner, LARGEST_IMAGE))
    except FileNotFoundError:
        return Item(name, path, None, "no such file or directory")
    except Exception as error:  # each storage library has its own classes
        return Item(name, path, None, in_one_line(error))


def read_rows(task: dict) -> Iterator[Item]:
    for url, start, stop in task["pieces"]:
        file_name, row = PurePosixPath(url).name, start
        try:
            for name, encoded in read_row_range(url, start, stop, task["column"], task["name_column"]):
                name, error = f"{file_name}#{row}" if name is None else str(name), None
                if len(name) > LONGEST_PATH:
                    name, error = f"{file_name}#{row}", f"its name has {len(name):,} characters"
                elif not encoded or len(encoded) > LARGEST_IMAGE:
                    error = f"more than {LARGEST_IMAGE:,} bytes" if encoded else "there are no bytes"
                yield Item(name, f"{url}#{row}", encoded, error)
                row += 1
            reason = "the file has fewer rows than it says"
        except Exception as error:  # of the storage library, or of Arrow for a damaged file
            reason = in_one_line(error)
        yield from (Item(f"{file_name}#{i}", f"{url}#{i}", None, reason) for i in range(row, stop))


def read_row_range(
    url: str, start: int, stop: int, column: str, name_column: str | None
) -> Iterator[tuple[Any, bytes | None]]:
    """Yield name (None without name_column) and bytes of the rows `start` to `stop` - 1 of a Parquet file."""
    file = open_parquet(*open_storage(url))
    columns = [column, name_column] if name_column else [column]
    row = 0
    for group in range(file.metadata.num_row_groups):
        rows = file.metadata.row_group(group).num_rows
        if row + rows <= start or row >= stop:
            row += rows
            continue
        # One at a time: a value that rows share is stored once, and would be in memory once for each row of a batch.
        for batch in file.iter_batches(1, row_groups=[group], columns=columns):
            first, last = max(start - row, 0), min(stop - row, len(batch))
            row += len(batch)
            if first < last:
                part = batch.slice(first, last - first)
                names = column_array(part, name_column).to_pylist() if name_column else repeat(None)
                yield from zip(names, column_array(part, column).to_pylist())


def in_one_line(error: BaseException) -> str:
    """An error's message; with the name of its class unless the class is one of ours."""
    message = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
    return shortened(" ".join(message.split()))
