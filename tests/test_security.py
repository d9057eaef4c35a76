"""SECURITY.md has the limits that the code has."""

import re
from pathlib import Path

import pytest

from ppdet.convert import named_arrays, torch_file
from ppdet.core import yaml_graph
from ppdet.data.image_files import jpeg, png
from ppdet.deploy import serve
from ppdet.deploy.batch import __main__ as batch
from ppdet.deploy.batch import ray_pool, read_images
from ppdet.deploy.serving import connections, limits, request, worker_process
from ppdet.deploy.video import address, source, written_video
from ppdet.engine.checkpoints import manifest
from ppdet.utils import ranges
from ppdet.utils.disk import archive, files, images, steady_http
from ppdet.utils.disk.download import ATTEMPTS
from ppdet.utils.formats import safetensors_file, unpickle, zip_directory

ROOT = Path(__file__).resolve().parents[1]
KIB, MIB, GIB = 2**10, 2**20, 2**30
ALLOWANCE = yaml_graph.Allowance()
SERVER = limits.Settings()
BATCH = batch.parse_arguments(["--model_dir", "m", "--input", "i", "--output", "o"])
COMMAND = serve.parse_arguments(["--model_dir", "m"])


def waits_in_words() -> str:
    """The waits before the attempts: each once, and the last one with "then" as it goes on to the end."""
    *growing, last = dict.fromkeys(source.WAITS)
    assert source.WAITS[len(growing) :] == (last,) * (len(source.WAITS) - len(growing))
    return f"{', '.join(map(str, growing))}, then {last}"


@pytest.mark.parametrize(
    ("what", "limit"),
    [
        ("a pickle", f"{unpickle.LARGEST_WEIGHTS // GIB} GiB"),
        ("what a pickle makes", f"{unpickle.MULTIPLE} times its bytes, and {unpickle.SPARE_BYTES // MIB} MiB"),
        ("list of records", f"{zip_directory.LARGEST_DIRECTORY // MIB} MiB"),
        ("names in a file to convert", f"{named_arrays.MOST_NAMES:,}; {named_arrays.LONGEST_NAME:,}"),
        ("characters of a path in `_BASE_`", f"{files.LONGEST_PATH:,}"),
        (f"bytes that must arrive every {steady_http.WINDOW_SECONDS:g} s", f"{steady_http.LEAST_BYTES:,}; {ATTEMPTS}"),
        ("uses of each number", f"{torch_file.MOST_USES}"),
        ("header of a `.safe", f"{safetensors_file.LARGEST_HEADER // MIB} MiB"),
        ("manifest of a checkpoint", f"{manifest.MAX_BYTES // MIB} MiB"),
        ("files that a configuration", f"{ALLOWANCE.files}"),
        ("bytes of all its files", f"{ALLOWANCE.size:,}; {ALLOWANCE.characters:,}; {ALLOWANCE.values:,}"),
        ("nested lists", f"{yaml_graph.MAX_DEPTH}; {yaml_graph.MAX_DIGITS}"),
        ("scans of a progressive", f"{jpeg.MOST_SCANS}; {jpeg.MOST_SCANNED / 2**30:g} x 2^30"),
        (
            "segments of a JPEG",
            f"{jpeg.MOST_SEGMENTS:,} each; {png.MOST_CHUNKS:,} and one for each {png.LEAST_BYTES:,}",
        ),
        ("bytes of a file on a disk", f"2^31 - 1; {read_images.LARGEST_IMAGE // GIB} GiB"),
        ("bytes of a text list", f"{images.LARGEST_LIST // GIB} GiB; {images.MOST_PATHS:,}; {images.LONGEST_PATH:,}"),
        ("seconds for an image", f"{BATCH.image_timeout_s:g}, times"),
        ("tasks on which workers die", f"{ray_pool.MAX_LOST_TASKS}"),
        (
            "pixels of a configured size",
            f"2^{ranges.MAX_PIXELS.bit_length() - 1}; {ranges.MAX_CLASSES:,}; {ranges.MAX_BATCH:,}",
        ),
        ("protocols of streams", ", ".join(address.PROTOCOLS)),
        ("seconds for a stream to open", f"{source.OPEN_SECONDS}; {source.READ_SECONDS}"),
        ("attempts to open a lost stream", f"{len(source.WAITS)}; {waits_in_words()}"),
        ("times that a frame is repeated", f"{written_video.MOST_REPEATS:,}"),
        ("bytes of weights", f"{unpickle.LARGEST_WEIGHTS // GIB} GiB"),
        (
            "content of an archive",
            f"{archive.MOST_TIMES} times its bytes, and {archive.SPARE_BYTES // GIB} GiB; {archive.MOST_MEMBERS:,}; "
            f"{archive.LARGEST_DIRECTORY // MIB} MiB",
        ),
        ("bytes of a request", f"{COMMAND.max_body_mb} MiB"),
        ("pixels of an image", f"{COMMAND.max_pixels:,}"),
        ("seconds until an answer", f"{COMMAND.timeout_s}"),
        ("requests at once", f"{COMMAND.max_queue}"),
        ("connections in all", f"{SERVER.max_connections}; {SERVER.max_connections_per_address}"),
        (
            "head of a request",
            f"{connections.HEAD_S:g}; {connections.LARGEST_HEAD // KIB} KiB; {connections.MOST_HEADERS}; "
            f"{connections.LONGEST_TARGET:,}",
        ),
        (f"chunks of less than {connections.BYTES_PER_CHUNK} ", f"{connections.FREE_CHUNKS:,}; {limits.PROGRESS:,}"),
        ("options of a query", f"{request.MAX_FIELDS}; {request.MAX_MARKS}"),
        ("seconds for a process to start", f"{worker_process.START_S:g}"),
    ],
)
def test_limit(what, limit):
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    [row] = [line.split(" | ") for line in text.splitlines() if line.startswith(f"| {what}")]
    assert row[1].startswith(limit)


def test_files_that_it_names_exist():
    text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    paths = re.findall(r"`(ppdet/[a-z_/0-9]+\.py)`", text) + re.findall(r"\]\(((?!http)[^)]+)\)", text)
    assert len(paths) > 15 and [path for path in paths if not (ROOT / path).exists()] == []
