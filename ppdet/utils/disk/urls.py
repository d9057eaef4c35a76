"""What the URL of a file says: the file's name, a login, and what may be saved of it."""

import base64
import hashlib
import re
import urllib.parse
from pathlib import Path

from ppdet.utils.disk.files import read_text
from ppdet.utils.masking import is_masked, masked


def file_name(url: str) -> str:
    """Return the file name that a URL ends with, as it can be one on all systems; "" if there is none, or no host."""
    try:
        parts = urllib.parse.urlparse(url)
        name = Path(urllib.parse.unquote(parts.path)).name if parts.port != 0 else ""
    except ValueError:
        return ""  # an invalid host or port, as of a password with a slash that is not %-encoded
    return re.sub(r'[<>:"|?*\\\x00-\x1f\x7f]', "_", name)  # Windows refuses these in file names


def split_login(url: str) -> tuple[str, str | None]:
    """Return a URL without user and password, and the header Authorization that says them; None without a login."""
    scheme, _, rest = url.partition("://")
    place, slash, path = rest.partition("/")
    login, at, host = place.rpartition("@")
    if not at:
        return url, None
    code = base64.b64encode(urllib.parse.unquote(login).encode()).decode()
    return f"{scheme}://{host}{slash}{path}", f"Basic {code}"


def record_of(url: str) -> str:
    """Return what is saved of a URL: without password and query, with a hash that tells URLs of other queries apart."""
    shown = masked(url)
    if shown == url:
        return url
    return f"{shown} {hashlib.sha256(split_login(url)[0].encode()).hexdigest()[:8]}"


def is_recorded(url: str, record: str) -> bool:
    """Whether a record is that of a URL, which may be `masked` itself, as in the config.yml of a run."""
    return record in (url, record_of(url)) or (is_masked(url) and record.partition(" ")[0] == url)


def downloads_of(url: str, folder: Path) -> list[Path]:
    """Return the files in a folder of downloads that their records, FILE.url, say to be of a URL, see `is_recorded`."""
    records = [path for path in folder.glob("*.url") if is_recorded(url, read_text(path).strip())]
    return [path.with_suffix("") for path in records if path.with_suffix("").is_file()]
