"""Download COCO 2017 for detection and unpack it into train2017, val2017 and annotations.

The sizes and MD5 sums below are the published ones. The real archives have never been downloaded by this code: its
parts were tested with a local server.
"""

import argparse
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from ppdet.utils.disk.archive import ArchiveError, unpack
from ppdet.utils.disk.download import DownloadError, download

BASE_URL = "http://images.cocodataset.org"
EXAMPLES = """examples:
  python dataset/coco/download_coco.py                  # everything: 19 GB of archives, 40 GB on the disk
  python dataset/coco/download_coco.py --split val      # the 5,000 validation images and the annotations
  python dataset/coco/download_coco.py --output /data/coco --base_url http://mirror.example.org/coco

Run it again after an interruption: it continues where it stopped. Without network, put the archives, under their own
names, into the output folder and run it: it checks and unpacks them.
"""


@dataclass(frozen=True)
class Part:
    """An archive.

    path: its place below the base URL. folder: the folder that it unpacks to. files: number of files in that folder.
    archive_bytes, folder_bytes: sizes of the archive and of the folder, used to check the free space.
    """

    path: str
    md5: str
    folder: str
    files: int
    archive_bytes: int
    folder_bytes: int

    @property
    def name(self) -> str:
        """Return the file name of the archive."""
        return self.path.rsplit("/", 1)[-1]


MANIFEST = {
    "annotations": Part(
        path="annotations/annotations_trainval2017.zip",
        md5="f4bbac642086de4f52a3fdda2de5fa2c",
        folder="annotations",
        files=6,
        archive_bytes=252_907_541,
        folder_bytes=850_000_000,
    ),
    "val": Part(
        path="zips/val2017.zip",
        md5="442b8da7639aecaf257c1dceb8ba8c80",
        folder="val2017",
        files=5_000,
        archive_bytes=815_585_330,
        folder_bytes=840_000_000,
    ),
    "train": Part(
        path="zips/train2017.zip",
        md5="cced6f7f71b7629ddf16f17bbcfab6b2",
        folder="train2017",
        files=118_287,
        archive_bytes=19_336_861_798,
        folder_bytes=19_800_000_000,
    ),
}


def download_parts(parts: Sequence[Part], output: Path, base_url: str) -> list[Path]:
    """Download and unpack the parts that are not complete, and return the archives that are no longer needed.

    Raises:
        DownloadError, ArchiveError: the message is one line. A later call continues where this one stopped.
    """
    missing = [part for part in parts if count_files(output / part.folder) < part.files]
    check_free_space(missing, output)
    for part in missing:
        archive = output / part.name
        url = f"{base_url.rstrip('/')}/{part.path}"
        download(url, archive, md5=part.md5, hint=", then run this again")
        print(f"unpacking {archive}", flush=True)
        unpack(archive, output)
        if count_files(output / part.folder) < part.files:
            raise ArchiveError(f"{archive}: expected {part.files} files in {part.folder}/ after unpacking it")
    for part in parts:
        print(f"{output / part.folder}: complete, {count_files(output / part.folder)} files")
    return [output / part.name for part in parts if (output / part.name).is_file()]


def count_files(folder: Path) -> int:
    """Return the number of files in a folder without hidden ones, which are being written; 0 without a folder."""
    return sum(not path.name.startswith(".") for path in folder.iterdir()) if folder.is_dir() else 0


def check_free_space(parts: Sequence[Part], output: Path) -> None:
    """Raise DownloadError if the disk has less free space than `parts` still need."""
    needed = 0
    for part in parts:
        arrived = [output / part.name, output / f".{part.name}.part"]
        on_disk = sum(path.stat().st_size for path in arrived if path.is_file())
        needed += max(0, part.archive_bytes - on_disk) + part.folder_bytes
    existing = next(folder for folder in [output, *output.resolve().parents] if folder.exists())
    free = shutil.disk_usage(existing).free
    if needed > free:
        raise DownloadError(
            f"{output}: {needed / 1e9:.1f} GB are needed, {free / 1e9:.1f} GB are free: choose another disk "
            f"with --output, or --split val"
        )


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(
        description="Download and unpack COCO 2017.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    here = Path(__file__).resolve().parent
    parser.add_argument("--output", type=Path, default=here, help="folder for the files (default: dataset/coco)")
    parser.add_argument(
        "--split",
        nargs="+",
        choices=["train", "val"],
        default=["train", "val"],
        help="images to download (default: train val); the annotations are always downloaded",
    )
    parser.add_argument(
        "--base_url", default=BASE_URL, help="address of a mirror with the same paths (default: %(default)s)"
    )
    options = parser.parse_args(arguments)
    parts = [part for name, part in MANIFEST.items() if name in ("annotations", *options.split)]
    try:
        unneeded = download_parts(parts, options.output, options.base_url)
    except (DownloadError, ArchiveError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped: run the command again to continue", file=sys.stderr)
        return 130
    if unneeded:
        print(f"these files are no longer needed: {' '.join(str(path) for path in unneeded)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
