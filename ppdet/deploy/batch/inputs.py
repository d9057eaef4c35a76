"""Which images a job runs on, numbered once and for all, and how a worker reads its part of them."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from ppdet.deploy.batch.storage import absolute, is_url, locate, open_storage, storage_errors
from ppdet.utils.disk.images import is_image_name, no_image_error, parse_image_list
from ppdet.utils.errors import DataError, UserError

# Rows of a Parquet file of images that are in memory at once.
ROWS = 16
# Files that a worker fetches from object storage at once: each of them takes its time to answer.
READERS = 16


class Item(NamedTuple):
    """An image of a task. name: as it is called in the input. path: where it is. image: what Detector.prepare takes,
    None where there is none to be had, and why in `error`."""

    name: str
    path: str
    image: str | bytes | None
    error: str | None = None


@dataclass(frozen=True)
class ImagePaths:
    """Images in files of their own. root: the folder that relative names are in."""

    root: str
    names: Sequence[str]

    # Tasks of any size cost the same to read.
    whole_shards = False

    def __len__(self) -> int:
        return len(self.names)

    def fingerprint(self) -> str:
        return sha256([self.root, *self.names])

    def task(self, first: int, count: int) -> dict:
        """What a worker has to know to read images `first` to `first + count`."""
        return {"root": self.root, "names": list(self.names[first : first + count])}


@dataclass(frozen=True)
class EncodedImages:
    """Images as bytes in a column of Parquet files. files: their URLs and numbers of rows."""

    files: Sequence[tuple[str, int]]
    column: str
    name_column: str | None = None

    # Parquet is read from the beginning of a group of rows on, so that small tasks would read it again and again.
    whole_shards = True

    def __len__(self) -> int:
        return sum(rows for _, rows in self.files)

    def fingerprint(self) -> str:
        return sha256([self.column, self.name_column or "", *(f"{url} {rows}" for url, rows in self.files)])

    def task(self, first: int, count: int) -> dict:
        """What a worker has to know to read images `first` to `first + count`: rows of files."""
        pieces, offset = [], 0
        for url, rows in self.files:
            start, stop = max(first - offset, 0), min(first + count - offset, rows)
            if start < stop:
                pieces.append([url, start, stop])
            offset += rows
        return {"pieces": pieces, "column": self.column, "name_column": self.name_column}


Inputs = ImagePaths | EncodedImages


def find_inputs(
    place: str,
    *,
    image_dir: str | None = None,
    path_column: str | None = None,
    bytes_column: str | None = None,
    name_column: str | None = None,
) -> Inputs:
    """The images of a folder, of a text file with one path a line, or of Parquet files.

    Args:
        place: path or URL of the folder, the text file, a Parquet file, a folder of them, or a pattern with `*`.
        image_dir: where relative paths of a list or a column start; the working directory if None.
        path_column, bytes_column: the Parquet column with paths, or with encoded images; a.b is field b of column a.
        name_column: beside bytes_column, the column with the images' names.

    Raises:
        DataError: nothing there, or not what the options say.
    """
    place = absolute(place)
    fs, path = open_storage(place)
    root = absolute(image_dir or ".")
    with storage_errors(place):
        if path_column or bytes_column:
            files = parquet_files(fs, path, place)
            if bytes_column:
                return encoded_images(fs, files, bytes_column, name_column)
            return ImagePaths(root, [name for file in files for name in column_of_paths(fs, file, path_column)])
        if fs.isdir(path):
            return ImagePaths(place, find_names(fs, path, place))
        if not fs.exists(path):
            raise DataError(f"{place}: no such file or folder")
        if path.endswith(".parquet"):
            names = ", ".join(parquet_file(fs, path).schema_arrow.names)
            raise DataError(f"{place}: name its column with --path_column or --bytes_column; it has {names}")
        return ImagePaths(root, parse_image_list(fs.cat_file(path), place))


def find_names(fs: Any, path: str, place: str) -> list[str]:
    """Names of the images in a folder and below, relative to it, sorted."""
    below = len(path.rstrip("/")) + 1
    files = fs.find(path)
    names = sorted(file[below:] for file in files if is_image_name(file))
    if not names:
        hint = "; it has Parquet files: name their column with --path_column or --bytes_column"
        raise no_image_error(place, hint if any(file.endswith(".parquet") for file in files) else "")
    return names


def parquet_files(fs: Any, path: str, place: str) -> list[str]:
    if "*" in path:
        files = fs.glob(path)
    else:
        files = fs.find(path) if fs.isdir(path) else [path] if fs.exists(path) else []
        files = [file for file in files if file.endswith(".parquet") or file == path]
    if not files:
        raise DataError(f"{place}: no Parquet files there")
    return sorted(files)


def parquet_file(fs: Any, path: str) -> Any:
    import pyarrow
    from pyarrow import parquet

    try:
        return parquet.ParquetFile(fs.open(path, "rb"))
    except pyarrow.ArrowInvalid as error:
        raise DataError(f"{path}: not a Parquet file ({' '.join(str(error).split())})") from None


def require_column(file: Any, path: str, column: str, kinds: Sequence[str]) -> None:
    """See that a Parquet file has a column of one of these types.

    Raises:
        DataError: it has not.
    """
    from pyarrow import types

    found: Any = None
    fields = file.schema_arrow
    for part in column.split("."):
        names = [field.name for field in fields]
        if part not in names:
            raise DataError(f"{path}: no column {column}; it has {', '.join(file.schema_arrow.names)}")
        found = fields[names.index(part)].type
        fields = list(found) if types.is_struct(found) else []
    if not any(getattr(types, f"is_{kind}")(found) for kind in kinds):
        raise DataError(f"{path}: column {column} is {found}; expected {kinds[0]}")


def column_of_paths(fs: Any, path: str, column: str) -> Iterator[str]:
    file = parquet_file(fs, path)
    require_column(file, path, column, ("string", "large_string", "dictionary"))
    for batch in file.iter_batches(columns=[column]):
        # An empty path becomes a row with an error, as any other that leads nowhere.
        yield from (value or "" for value in values(batch, column))


def encoded_images(fs: Any, files: Sequence[str], column: str, name_column: str | None) -> EncodedImages:
    found = []
    for path in files:
        file = parquet_file(fs, path)
        require_column(file, path, column, ("binary", "large_binary"))
        if name_column:
            require_column(file, path, name_column, ("string", "large_string", "dictionary", "integer"))
        found.append((fs.unstrip_protocol(path), file.metadata.num_rows))
    if not sum(rows for _, rows in found):
        raise DataError(f"{files[0]}: no rows in it")
    return EncodedImages(found, column, name_column)


def values(batch: Any, column: str) -> list:
    """A column of a record batch as Python's objects; a.b is field b of column a."""
    first, *fields = column.split(".")
    found = batch.column(first).to_pylist()
    for field in fields:
        found = [None if value is None else value[field] for value in found]
    return found


def sha256(lines: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for line in lines:
        digest.update(line.encode("utf-8", "surrogateescape") + b"\n")
    return digest.hexdigest()


def read_items(task: dict) -> Iterator[Item]:
    """The images of a task, in order. Those that cannot be had come with the reason."""
    if "names" not in task:
        yield from read_rows(task)
        return
    names = task["names"]
    with ThreadPoolExecutor(READERS) as readers:
        for start in range(0, len(names), READERS):
            yield from readers.map(partial(read_path, task["root"]), names[start : start + READERS])


def read_path(root: str, name: str) -> Item:
    """An image in a file: one on a disk is left to Detector, others are fetched."""
    path = locate(root, name)
    if not is_url(path):
        return Item(name, path, path)
    try:
        fs, inner = open_storage(path)
        return Item(name, path, fs.cat_file(inner))
    except FileNotFoundError:
        return Item(name, path, None, "no such file or directory")
    except Exception as error:  # every service's library has classes of its own
        return Item(name, path, None, in_one_line(error))


def read_rows(task: dict) -> Iterator[Item]:
    """The images of rows of Parquet files."""
    for url, start, stop in task["pieces"]:
        name, row = PurePosixPath(url).name, start
        try:
            for called, encoded in rows_between(url, start, stop, task["column"], task["name_column"]):
                called = f"{name}#{row}" if called is None else str(called)
                yield Item(called, f"{url}#{row}", encoded, None if encoded else "there are no bytes")
                row += 1
        except Exception as error:  # of the storage, or of Arrow for a damaged file
            reason = in_one_line(error)
            yield from (Item(f"{name}#{i}", f"{url}#{i}", None, reason) for i in range(row, stop))


def rows_between(
    url: str, start: int, stop: int, column: str, name_column: str | None
) -> Iterator[tuple[Any, bytes | None]]:
    """Name (None without a column for it) and bytes of rows of a Parquet file, few of them in memory at once."""
    file = parquet_file(*open_storage(url))
    groups, row, first = [], 0, 0
    for group in range(file.metadata.num_row_groups):
        rows = file.metadata.row_group(group).num_rows
        if row < stop and row + rows > start:
            first = first if groups else row
            groups.append(group)
        row += rows
    row = first
    columns = [column, name_column] if name_column else [column]
    for batch in file.iter_batches(ROWS, row_groups=groups, columns=columns):
        wanted = range(max(start - row, 0), min(stop - row, len(batch)))
        if wanted:
            part = batch.slice(wanted.start, len(wanted))
            names = values(part, name_column) if name_column else [None] * len(wanted)
            yield from zip(names, values(part, column))
        row += len(batch)
        if row >= stop:
            return


def in_one_line(error: BaseException) -> str:
    """An error's message, with its class where that is not one of ours."""
    message = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
    return " ".join(message.split())
