"""Downloading files: once, resumed after an interruption, checked, and by one process at a time.

The library `pooch` is not used, because it cannot resume a transfer.
"""

import base64
import hashlib
import http.client
import json
import os
import re
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any, BinaryIO

from tqdm import tqdm

from ppdet.utils.disk.files import atomic_path, read_text, write_json
from ppdet.utils.disk.lock import one_process
from ppdet.utils.disk.redirects import ToHttpOnly
from ppdet.utils.disk.steady_http import SteadyHandler, SteadySecureHandler
from ppdet.utils.disk.urls import downloads_of, file_name, is_recorded, record_of, split_login
from ppdet.utils.errors import UserError
from ppdet.utils.formats.unpickle import LARGEST_WEIGHTS
from ppdet.utils.logger import get_logger
from ppdet.utils.masking import is_masked
from ppdet.utils.printable import printable

logger = get_logger(__name__)

WEIGHTS_HOME = "~/.cache/paddle/weights"  # PaddleDetection's folder: its downloads are used here too
WEIGHTS_SUFFIXES = ("", ".pdparams", ".safetensors")
CHUNK_BYTES = 1 << 20
TIMEOUT_SECONDS = 30
ATTEMPTS = 4
RETRY_SECONDS = 2.0
LOG_SECONDS = 10.0
LONGEST_ANSWER = 200  # characters of a server's words in a message


class DownloadError(UserError, OSError):
    """A file that cannot be obtained. The message says what to do."""


class MissingFileError(DownloadError):
    """A local file that does not exist."""


class _TooLarge(Exception):
    """The file has more bytes than it may have."""


class _Interrupted(Exception):
    """The transfer ended early. What has arrived is kept, and another attempt may get the rest."""


def fetch(
    url_or_path: str | Path, *, cache_dir: str | Path | None = None, md5: str | None = None, hint: str = ""
) -> Path:
    """Return the local path of a file of weights, downloading it if a URL is given.

    Two URLs that end with the same file name get two files.

    Args:
        url_or_path: a local path, where ".pdparams" or ".safetensors" may be left out, or an http(s) URL, in which
            user and password may stand, %-encoded.
        cache_dir: where downloads are kept; None: the environment variable PPDET_WEIGHTS_HOME, or
            ~/.cache/paddle/weights.
        md5: expected MD5 in hexadecimal digits.
        hint: ends the message of a failed download.

    Raises:
        DownloadError: there is no such file, or it cannot be downloaded.
    """
    text = str(url_or_path)
    scheme = re.match(r"([A-Za-z][A-Za-z0-9+.-]+)://", text)
    if scheme is None:
        return _local(text)
    if scheme.group(1).lower() not in ("http", "https"):
        raise DownloadError(f"{text}: expected a local path or a URL with http:// or https://")
    name = file_name(text)
    if name in ("", "..", "."):
        raise DownloadError(f"{text}: expected a URL that ends with a file name, e.g. .../model.pdparams")
    folder = Path(os.path.expanduser(cache_dir or os.environ.get("PPDET_WEIGHTS_HOME") or WEIGHTS_HOME))
    target = folder / name
    source = folder / f"{name}.url"  # says where the file came from; PaddleDetection does not write one
    if is_masked(text) and (source.is_file() or not target.is_file()):
        found = downloads_of(text, folder)
        if len(found) != 1:
            several = f", and {folder} has {len(found)} files of such URLs" if found else ""
            raise DownloadError(f"{text}: passwords and queries are not saved{several}: give the whole URL again{hint}")
        target = found[0]
    elif source.is_file() and target.is_file() and not is_recorded(text, read_text(source).strip()):
        digest = hashlib.sha256(split_login(text)[0].encode()).hexdigest()[:8]
        target = folder / f"{target.stem}-{digest}{target.suffix}"
        source = folder / f"{target.name}.url"
    if download(text, target, md5=md5, hint=hint, largest=LARGEST_WEIGHTS):
        with atomic_path(source) as temporary:
            temporary.write_text(record_of(text) + "\n", encoding="utf-8")
    return target


def download(url: str, target: Path, *, md5: str | None = None, hint: str = "", largest: int | None = None) -> bool:
    """Download `url` to `target` unless it exists, and return whether it was downloaded now.

    The transfer goes to a hidden ".part" file, which a later call resumes if the server still has the same file. Of
    several processes, one downloads and the others wait. The length is checked, and the MD5 if it is given or the
    server sends it (Content-MD5). An existing file is only checked if `md5` is given.

    Args:
        largest: size in bytes above which a file is not downloaded; None: any that fits the disk.

    Raises:
        DownloadError: the message names the path to put the file at, and ends with `hint`.
    """
    advice = f"download it elsewhere and put it at {target}{hint}"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if _exists(target, md5):
            return False
        with one_process(target, "downloads"):
            if _exists(target, md5):
                return False
            _download_locked(url, target, md5, advice, largest)
            return True
    except DownloadError:
        raise
    except OSError as error:
        raise DownloadError(f"{target}: cannot be written ({_network_error_text(error)}): {advice}") from error


def file_md5(path: Path) -> str:
    """Return the MD5 of a file as 32 hexadecimal digits."""
    digest = hashlib.md5(usedforsecurity=False)
    with open(path, "rb") as stream:
        for chunk in iter(lambda: stream.read(CHUNK_BYTES), b""):
            digest.update(chunk)
    return digest.hexdigest()


def _local(text: str) -> Path:
    path = Path(os.path.expanduser(text))
    candidates = [path.with_name(path.name + suffix) for suffix in WEIGHTS_SUFFIXES] if path.name else [path]
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    if any(candidate.exists() for candidate in candidates):
        raise MissingFileError(f"{path}: not a regular file: expected weights or their URL")
    tried = " or ".join(suffix for suffix in WEIGHTS_SUFFIXES if suffix)
    raise MissingFileError(f"{path}: no such file, nor with {tried} appended: expected weights or their URL")


def _exists(target: Path, md5: str | None) -> bool:
    if not target.is_file():
        return False
    if md5 is not None and file_md5(target) != md5.lower():
        logger.warning("%s has another MD5 than expected: it is downloaded again", target)
        return False
    return True


def _download_locked(url: str, target: Path, md5: str | None, advice: str, largest: int | None) -> None:
    part = target.with_name(f".{target.name}.part")
    logger.info("downloading %s to %s", url, target)
    for attempt in range(1, ATTEMPTS + 1):
        try:
            expected_md5 = _transfer(url, part, md5, largest)
            break
        except _TooLarge:
            _remove(part)
            raise DownloadError(f"{url}: larger than the {largest:,} bytes that such a file may have") from None
        except _Interrupted as error:
            if attempt == ATTEMPTS:
                message = f"{url}: {error} ({ATTEMPTS} attempts): run again to continue, or {advice}"
                raise DownloadError(message) from None
            logger.warning("%s: %s, attempt %d of %d follows", url, error, attempt + 1, ATTEMPTS)
            time.sleep(RETRY_SECONDS * attempt)
        except urllib.error.HTTPError as error:
            message = f"{url}: {_answer(error)}: check the URL, or {advice}"
            raise DownloadError(message) from None
        except (urllib.error.URLError, http.client.HTTPException, ValueError) as error:
            raise DownloadError(f"{url}: cannot be downloaded ({_network_error_text(error)}): {advice}") from None
    actual = file_md5(part) if expected_md5 else None
    if actual != expected_md5:
        _remove(part)
        raise DownloadError(
            f"{url}: the MD5 of what arrived is {actual}, expected {expected_md5}: run again, or {advice}"
        )
    os.replace(part, target)
    _remove(part)


def _transfer(url: str, part: Path, md5: str | None, largest: int | None) -> str | None:
    """Download the rest of `part`, and return the MD5 it should have, if that is known.

    Raises:
        _Interrupted: another attempt may succeed. URLError, HTTPException: it would not. _TooLarge: the file has more
            than `largest` bytes.
    """
    meta = _read_meta(part)
    start = part.stat().st_size if part.exists() else 0
    address, login = split_login(url)
    request = urllib.request.Request(address, headers={"User-Agent": "ppdet", "Accept-Encoding": "identity"})
    if login:
        request.add_unredirected_header("Authorization", login)  # which no other server gets
    if start and meta.get("url") == record_of(url) and meta.get("validator"):
        request.add_header("Range", f"bytes={start}-")
        request.add_header("If-Range", meta["validator"])  # if the file has changed, the server sends all of it
    try:
        opener = urllib.request.build_opener(ToHttpOnly, SteadyHandler, SteadySecureHandler)
        response = opener.open(request, timeout=TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # there is nothing after `start`: the part is of another file
            _remove(part)
            raise _Interrupted("the file has changed on the server") from None
        if error.code == 429 or error.code >= 500:
            raise _Interrupted(_answer(error)) from None
        raise
    except (TimeoutError, ConnectionError) as error:
        raise _Interrupted(f"no answer ({_network_error_text(error)})") from None
    with response:
        is_resumed = response.status == 206
        if is_resumed and not response.headers.get("Content-Range", "").startswith(f"bytes {start}-"):
            _remove(part)
            raise _Interrupted("the server sent another part than requested")
        if not is_resumed:
            start, meta = 0, _new_meta(url, response.headers)
            write_json(_meta_path(part), meta)
        length = response.headers.get("Content-Length", "")
        total = start + int(length) if re.fullmatch("[0-9]{1,18}", length) else None
        with open(part, "ab" if is_resumed else "wb") as stream:
            _copy(response, stream, start, total, largest, Path(urllib.parse.urlparse(url).path).name)
    return md5.lower() if md5 is not None else meta.get("md5")


def _copy(response: Any, stream: BinaryIO, start: int, total: int | None, largest: int | None, name: str) -> None:
    """Copy the response, with a progress bar on a terminal, else with a line in the log every LOG_SECONDS.

    Args:
        start: bytes that have arrived before.
        total: bytes of the whole file, None if unknown.
        name: the file's name, for the progress.
    """
    if largest is not None and (total or 0) > largest:
        raise _TooLarge
    done, begin, logged = start, time.monotonic(), time.monotonic()
    on_terminal = sys.stderr.isatty()
    with tqdm(
        total=total, initial=start, unit="B", unit_scale=True, desc=printable(name), disable=not on_terminal
    ) as bar:
        while total is None or done < total:
            try:
                # Unlike `read`, it returns what has arrived, so that a slow transfer shows its progress.
                chunk = response.read1(CHUNK_BYTES if total is None else min(CHUNK_BYTES, total - done))
            except (OSError, http.client.HTTPException) as error:
                raise _Interrupted(f"the connection broke after {done} bytes ({_network_error_text(error)})") from None
            if not chunk:
                break
            if largest is not None and done + len(chunk) > largest:
                raise _TooLarge
            stream.write(chunk)
            done += len(chunk)
            bar.update(len(chunk))
            now = time.monotonic()
            if not on_terminal and now - logged >= LOG_SECONDS:
                logged = now
                of_total = f" of {total / 1e6:.0f}" if total else ""
                speed = (done - start) / 1e6 / (now - begin)
                logger.info("%s: %.0f%s MB, %.1f MB/s", name, done / 1e6, of_total, speed)
    if total is not None and done < total:
        raise _Interrupted(f"the connection ended after {done} of {total} bytes")


def _new_meta(url: str, headers: http.client.HTTPMessage) -> dict[str, str | None]:
    """What is saved beside a ".part" file to resume it: how to recognize the file on the server, and its MD5."""
    etag = headers.get("ETag", "")
    strong = etag if etag and not etag.startswith("W/") else None
    encoded = headers.get("Content-MD5", "")
    try:
        digest = base64.b64decode(encoded, validate=True)
    except ValueError:
        digest = b""
    return {
        "url": record_of(url),
        "validator": strong or headers.get("Last-Modified"),
        "md5": digest.hex() if len(digest) == 16 else None,
    }


def _meta_path(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _read_meta(part: Path) -> dict[str, Any]:
    try:
        meta = json.loads(read_text(_meta_path(part)))
    except (OSError, ValueError):
        return {}
    return meta if isinstance(meta, dict) else {}


def _remove(part: Path) -> None:
    part.unlink(missing_ok=True)
    _meta_path(part).unlink(missing_ok=True)


def _answer(error: urllib.error.HTTPError) -> str:
    return f"the server answers {error.code} {error.reason!s:.{LONGEST_ANSWER}}"


def _network_error_text(error: BaseException) -> str:
    """What went wrong, in one line. URLError has the system's error in its attribute `reason`."""
    cause = getattr(error, "reason", error)
    lines = str(getattr(cause, "strerror", None) or cause).splitlines()
    return lines[0][:LONGEST_ANSWER] if lines else type(error).__name__
