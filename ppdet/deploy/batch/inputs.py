"""The images of a batch job: which ones, in which order, and how they are divided into tasks for the workers.

Every image has a number, its position in the input from 0. A task is plain data that can be sent to a worker, which
reads the images by `read_images.read_items`.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from ppdet.deploy.batch.storage import absolute, open_storage, storage_errors
from ppdet.utils.disk.images import is_image_name, no_image_error, parse_image_list
from ppdet.utils.errors import DataError

if TYPE_CHECKING:
    import pyarrow
    from pyarrow import parquet

TEXT_TYPES = ("string", "large_string", "dictionary")


@dataclass(frozen=True)
class ImagePaths:
    """Images that are files of their own.

    Args:
        root: path or URL of the folder that relative names start from.
        names: path or URL of each image.
    """

    root: str
    names: Sequence[str]

    tasks_are_shards: ClassVar[bool] = False  # a task of any size costs the same per image

    def __len__(self) -> int:
        return len(self.names)

    def fingerprint(self) -> str:
        """SHA-256 of the list of images; another list, or another order, has another one."""
        return sha256([self.root, *self.names])

    def task(self, images: range) -> dict:
        """What a worker needs to read these images."""
        return {"root": self.root, "names": list(self.names[images.start : images.stop])}


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
) -> Inputs:
    """List the images of a folder, of a text file with one path per line, or of Parquet files.

    Args:
        place: path or URL of the folder, the text file, a Parquet file, a folder of Parquet files, or a pattern of
            Parquet files such as `data/*.parquet`.
        image_dir: folder that relative paths in a text file or a column start from; None: the working directory.
        path_column: Parquet column with image paths; `a.b` is field b of the struct column a.
        bytes_column: Parquet column with image files as bytes, instead of path_column.
        name_column: the Parquet column with the images' names; used with bytes_column.

    Raises:
        DataError: there are no images, or the input is not what the arguments say.
    """
    place = absolute(place)
    fs, path = open_storage(place)
    root = absolute(image_dir or ".")
    with storage_errors(place):
        if path_column:
            files = list_parquet_files(fs, path, place)
            return ImagePaths(root, [name for file in files for name in read_path_column(fs, file, path_column)])
        if bytes_column:
            return find_encoded_images(fs, list_parquet_files(fs, path, place), bytes_column, name_column)
        if fs.isdir(path):
            return ImagePaths(place, list_folder(fs, path, place))
        if not fs.exists(path):
            raise DataError(f"{place}: no such file or folder")
        if path.endswith(".parquet"):
            names = ", ".join(open_parquet(fs, path).schema_arrow.names)
            raise DataError(f"{place}: name its column with --path_column or --bytes_column; it has {names}")
        return ImagePaths(root, parse_image_list(fs.cat_file(path), place))


def list_folder(fs: Any, path: str, place: str) -> list[str]:
    """Sorted names of the images in a folder and its subfolders, relative to the folder."""
    prefix = len(path.rstrip("/")) + 1
    files = fs.find(path)
    names = sorted(file[prefix:] for file in files if is_image_name(file))
    if not names:
        hint = "; it has Parquet files: name their column with --path_column or --bytes_column"
        raise no_image_error(place, hint if any(file.endswith(".parquet") for file in files) else "")
    return names


def list_parquet_files(fs: Any, path: str, place: str) -> list[str]:
    if "*" in path:
        files = fs.glob(path)
    elif fs.isdir(path):
        files = [file for file in fs.find(path) if file.endswith(".parquet")]
    else:
        files = [path] if fs.exists(path) else []
    if not files:
        raise DataError(f"{place}: no Parquet files there")
    return sorted(files)


def open_parquet(fs: Any, path: str) -> "parquet.ParquetFile":
    """Raises DataError if the file is not Parquet."""
    import pyarrow
    from pyarrow import parquet

    try:
        return parquet.ParquetFile(fs.open(path, "rb"))
    except pyarrow.ArrowInvalid as error:
        raise DataError(f"{path}: not a Parquet file ({' '.join(str(error).split())})") from None


def require_column(file: "parquet.ParquetFile", path: str, column: str, types: Sequence[str]) -> None:
    """Raise DataError unless the file has the column and its type is one of `types` (pyarrow's names)."""
    import pyarrow

    fields, kind = list(file.schema_arrow), None
    for part in column.split("."):
        kind = next((field.type for field in fields if field.name == part), None)
        if kind is None:
            raise DataError(f"{path}: no column {column}; it has {', '.join(file.schema_arrow.names)}")
        fields = list(kind) if pyarrow.types.is_struct(kind) else []
    if not any(getattr(pyarrow.types, f"is_{name}")(kind) for name in types):
        raise DataError(f"{path}: column {column} is {kind}; expected {types[0]}")


def read_path_column(fs: Any, path: str, column: str) -> Iterator[str]:
    file = open_parquet(fs, path)
    require_column(file, path, column, TEXT_TYPES)
    for batch in file.iter_batches(columns=[column]):
        # A null becomes an empty path, and then a row with an error, as for any other path without a file.
        yield from (value or "" for value in column_values(batch, column))


def find_encoded_images(fs: Any, paths: Sequence[str], column: str, name_column: str | None) -> EncodedImages:
    files = []
    for path in paths:
        file = open_parquet(fs, path)
        require_column(file, path, column, ("binary", "large_binary"))
        if name_column:
            require_column(file, path, name_column, (*TEXT_TYPES, "integer"))
        files.append((fs.unstrip_protocol(path), file.metadata.num_rows))
    if not sum(rows for _, rows in files):
        raise DataError(f"{paths[0]}: no rows in it")
    return EncodedImages(files, column, name_column)


def column_values(batch: "pyarrow.RecordBatch", column: str) -> list:
    """A column of a record batch as Python objects; `a.b` is field b of the struct column a."""
    from pyarrow import compute

    first, *fields = column.split(".")
    array = batch.column(first)
    return (compute.struct_field(array, fields) if fields else array).to_pylist()


def sha256(lines: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for line in lines:
        digest.update(line.encode("utf-8", "surrogateescape") + b"\n")
    return digest.hexdigest()
