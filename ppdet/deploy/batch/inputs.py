"""The images of a batch job: which ones, in which order, and how they are divided into tasks for the workers.

Every image has a number, its position in the input from 0. A task is plain data that can be sent to a worker, which
reads the images by `read_images.read_items`.
"""

import glob
import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ppdet.utils.disk.images import (
    LARGEST_LIST,
    is_image_name,
    no_image_error,
    parse_image_list,
    require_few_paths,
    require_short_path,
)
from ppdet.utils.disk.object_storage import (
    absolute,
    find_files,
    is_local,
    open_file,
    open_storage,
    read_file,
    shortened,
    storage_errors,
)
from ppdet.utils.errors import DataError

if TYPE_CHECKING:
    import pyarrow
    from pyarrow import parquet

TEXT_TYPES = ("string", "large_string")
PATH_ROWS = 4096  # rows of a column of paths that are in memory at the same time
STREAM_BYTES = 2**20  # a column of a row group is read in pieces of this size, however large it is


@dataclass(frozen=True)
class ImagePaths:
    """Images that are files of their own.

    Args:
        root: path or URL of the folder that relative names start from.
        names: path or URL of each image.
        schemes: schemes of URLs in `names` that are read besides those of `storage.LIST_SCHEMES`.
    """

    root: str
    names: Sequence[str]
    schemes: Sequence[str] = ()

    tasks_are_shards: ClassVar[bool] = False  # a task of any size costs the same per image

    def __len__(self) -> int:
        return len(self.names)

    def fingerprint(self) -> str:
        """SHA-256 of the list of images; another list, or another order, has another one."""
        return sha256([self.root, *self.names])

    def task(self, images: range) -> dict:
        """What a worker needs to read these images."""
        return {"root": self.root, "names": list(self.names[images.start : images.stop]), "schemes": self.schemes}


@dataclass(frozen=True)
class EncodedImages:
    """Images as bytes in a column of Parquet files.

    Args:
        files: URL and number of rows of each Parquet file.
        column: name of the column with image files as bytes; `a.b` is field b of the struct column a.
        name_column: name of the column with the images' names; without it, names are FILE#ROW.
    """

    files: Sequence[tuple[str, int]]
    column: str
    name_column: str | None = None

    # Parquet is read in row groups: several small tasks within one row group would each read all of it.
    tasks_are_shards: ClassVar[bool] = True

    def __len__(self) -> int:
        return sum(rows for _, rows in self.files)

    def fingerprint(self) -> str:
        """SHA-256 of the files' URLs and lengths and of the column names."""
        return sha256([self.column, self.name_column or "", *(f"{url} {rows}" for url, rows in self.files)])

    def task(self, images: range) -> dict:
        """What a worker needs to read these images: [URL, first row, last row + 1] for each file."""
        pieces, offset = [], 0
        for url, rows in self.files:
            start, stop = max(images.start - offset, 0), min(images.stop - offset, rows)
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
    url_schemes: Sequence[str] = (),
) -> Inputs:
    """List the images of a folder, of a text file with one path per line, or of Parquet files; or take one image.

    Args:
        place: path or URL of the folder, the text file, the image, a Parquet file, a folder of Parquet files, or a
            pattern of Parquet files such as `data/*.parquet`.
        image_dir: folder that relative paths in a text file or a column start from; None: the working directory.
        path_column: Parquet column with image paths; `a.b` is field b of the struct column a.
        bytes_column: Parquet column with image files as bytes, instead of path_column.
        name_column: the Parquet column with the images' names; used with bytes_column.
        url_schemes: see `ImagePaths.schemes`.

    Raises:
        DataError: there are no images, or the input is not what the arguments say.
    """
    place = absolute(place)
    fs, path = open_storage(place)
    root = absolute(image_dir or ".")
    with storage_errors(place):
        if path_column:
            files = list_parquet_files(fs, path, place)
            names: list[str] = []
            for file in files:
                names += read_path_column(fs, file, path_column, len(names))
            return ImagePaths(root, names, url_schemes)
        if bytes_column:
            return find_encoded_images(fs, list_parquet_files(fs, path, place), bytes_column, name_column)
        if fs.isdir(path):
            return ImagePaths(place, list_folder(fs, path, place))
        if not fs.exists(path):
            raise DataError(f"{place}: no such file or folder")
        if is_image_name(path):
            folder, _, name = place.replace(os.sep, "/").rpartition("/")
            return ImagePaths(folder or "/", [name], url_schemes)
        if path.endswith(".parquet"):
            columns = column_names(open_parquet(fs, path))
            raise DataError(f"{place}: name its column with --path_column or --bytes_column; it has {columns}")
        return ImagePaths(root, parse_image_list(read_file(fs, path, LARGEST_LIST), place), url_schemes)


def list_folder(fs: Any, path: str, place: str) -> list[str]:
    """Sorted names of the images in a folder and its subfolders, relative to the folder."""
    prefix = len(path.rstrip("/")) + 1
    files = find_files(fs, path)
    names = sorted(file[prefix:] for file in files if is_image_name(file))
    if not names:
        hint = "; it has Parquet files: name their column with --path_column or --bytes_column"
        raise no_image_error(place, hint if any(file.endswith(".parquet") for file in files) else "")
    return names


def list_parquet_files(fs: Any, path: str, place: str) -> list[str]:
    if "*" in path:
        # Python's function follows links, which may go in a circle below **; fsspec's does not follow them.
        files = glob.glob(path) if is_local(fs) and "**" not in path else fs.glob(path)
    elif fs.isdir(path):
        files = [file for file in find_files(fs, path) if file.endswith(".parquet")]
    else:
        files = [path] if fs.exists(path) else []
    if not files:
        raise DataError(f"{place}: no Parquet files there")
    return sorted(files)


def open_parquet(fs: Any, path: str, shared: Sequence[str] = ()) -> "parquet.ParquetFile":
    """Open a Parquet file.

    Args:
        shared: columns whose equal values are kept in memory once, as a dictionary.

    Raises:
        DataError: it is not Parquet. OSError: it cannot be opened.
    """
    from pyarrow import parquet

    stream = open_file(fs, path)
    try:
        return parquet.ParquetFile(stream, buffer_size=STREAM_BYTES, read_dictionary=list(shared))
    except Exception as error:  # Arrow raises many classes for damaged files
        stream.close()
        raise DataError(f"{path}: not a Parquet file ({shortened(' '.join(str(error).split()))})") from None


def row_count(file: "parquet.ParquetFile", path: str) -> int:
    """The number of rows in a Parquet file. Raises DataError if what the file says of it does not fit together."""
    whole = file.metadata
    groups = [whole.row_group(number).num_rows for number in range(whole.num_row_groups)]
    if min(groups, default=0) < 0 or sum(groups) != whole.num_rows:
        raise DataError(f"{path}: damaged: its groups of rows have other numbers of rows than the file")
    return whole.num_rows


def column_names(file: "parquet.ParquetFile") -> str:
    """The names of a file's columns, for messages."""
    return shortened(", ".join(file.schema_arrow.names[:100]))


def require_column(file: "parquet.ParquetFile", path: str, column: str, types: Sequence[str]) -> None:
    """Raise DataError unless the file has the column and its type is one of `types` (pyarrow's names)."""
    import pyarrow

    fields, kind = list(file.schema_arrow), None
    for part in column.split("."):
        kind = next((field.type for field in fields if field.name == part), None)
        if kind is None:
            raise DataError(f"{path}: no column {column}; it has {column_names(file)}")
        fields = list(kind) if pyarrow.types.is_struct(kind) else []
    kind = getattr(kind, "value_type", None) if pyarrow.types.is_dictionary(kind) else kind
    if not any(getattr(pyarrow.types, f"is_{name}")(kind) for name in types):
        raise DataError(f"{path}: column {column} is {shortened(str(kind), 100)}; expected {types[0]}")


def read_path_column(fs: Any, path: str, column: str, before: int = 0) -> Iterator[str]:
    """Yield the paths in a column of a Parquet file; `before` is how many other files have given already."""
    from pyarrow import compute

    file = open_parquet(fs, path)
    require_column(file, path, column, TEXT_TYPES)
    require_few_paths(before + row_count(file, path), path)
    for batch in open_parquet(fs, path, shared=[column]).iter_batches(PATH_ROWS, columns=[column]):
        values = column_array(batch, column)
        texts = values.dictionary if hasattr(values, "dictionary") else values
        require_short_path(compute.max(compute.binary_length(texts)).as_py() or 0, path)
        # A null becomes an empty path, and then a row with an error, as for any other path without a file.
        yield from (value or "" for value in values.to_pylist())


def find_encoded_images(fs: Any, paths: Sequence[str], column: str, name_column: str | None) -> EncodedImages:
    files: list[tuple[str, int]] = []
    for path in paths:
        file = open_parquet(fs, path)
        require_column(file, path, column, ("binary", "large_binary"))
        if name_column:
            require_column(file, path, name_column, (*TEXT_TYPES, "integer"))
        files.append((fs.unstrip_protocol(path), row_count(file, path)))
    require_few_paths(sum(rows for _, rows in files), paths[0])
    if not sum(rows for _, rows in files):
        raise DataError(f"{paths[0]}: no rows in it")
    return EncodedImages(files, column, name_column)


def column_array(batch: "pyarrow.RecordBatch", column: str) -> "pyarrow.Array":
    """A column of a record batch; `a.b` is field b of the struct column a."""
    from pyarrow import compute

    first, *fields = column.split(".")
    array = batch.column(first)
    return compute.struct_field(array, fields) if fields else array


def sha256(lines: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for line in lines:
        digest.update(line.encode("utf-8", "surrogateescape") + b"\n")
    return digest.hexdigest()
