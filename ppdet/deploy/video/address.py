"""Addresses of streams: which protocols are opened, and how addresses are shown without the secrets in them."""

import re
import zlib

from ppdet.utils.errors import DataError
from ppdet.utils.masking import HIDDEN

# FFmpeg knows many more, some of which read local files or join other addresses. A playlist that one of these sends
# may name http and https only, which FFmpeg itself takes care of.
PROTOCOLS = ("http", "https", "rtmp", "rtmps", "rtsp", "rtsps")
# A path that may have a secret in it, such as /user=admin_password=… of some cameras, or /live/token/….
SECRET_WORD = re.compile(
    r"(?<![a-z])(?:access|api|app|auth|private|secret|session|stream|user)?"
    r"(?:auth|credential|key|pass(?:code|phrase|wd|word)?|pwd|secret|token)s?(?![a-z])",
    re.I,
)
MAY_BE_SECRET = re.compile(rf"[=&;@%]|{SECRET_WORD.pattern}", re.I)


def is_address(text: str) -> bool:
    """Whether a text is an address, with any protocol, rather than a path."""
    return re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", text) is not None


def require_protocol(address: str) -> None:
    """Raise DataError unless an address has one of PROTOCOLS, and neither spaces nor control characters."""
    protocol = address.partition("://")[0].lower()
    if protocol not in PROTOCOLS:
        raise DataError(f"{shown(address)}: streams are read by {', '.join(PROTOCOLS)}; of a file, give the path")
    if " " in address or not address.isprintable():
        raise DataError(f"{shown(address)}: the address has spaces or control characters, which have to be %-encoded")


def shown(address: str) -> str:
    """Return an address for messages: PROTOCOL://HOST/PATH.

    User, password and everything after `?` are left out, and a path in which there may be a secret is shown as ***. If
    it is not clear where a password ends, only the protocol is shown.
    """
    protocol, _, rest = address.partition("://")
    host, slash, path = re.fullmatch(r"([^/?#]*)(/?)([^?#]*).*", rest, re.S).groups()  # type: ignore[union-attr]
    if "@" in rest[len(host) :] or not re.fullmatch(r"[\w.:\[\]-]+", host.rpartition("@")[2]):
        return f"{protocol}://{HIDDEN}"
    path = HIDDEN if MAY_BE_SECRET.search(path) or not path.isprintable() else path
    return f"{protocol}://{host.rpartition('@')[2]}{slash}{path}"


def file_stem(address: str) -> str:
    """Return the name, without a suffix, of the files with the results of a stream: HOST_PATH, without secrets.

    Where something is left out, a number computed from it follows, so that two cameras of a host get two names. No
    secret goes into it, from which it could be guessed: neither user and password, nor what a secret word introduces.
    """
    told = shown(address)
    name = re.sub(r"[^A-Za-z0-9.-]+", "_", told.partition("://")[2]).strip("_.-")
    rest = address.partition("://")[2].rpartition("@")[2]
    path = rest[re.match(r"[^/?#]*", rest).end() :]  # type: ignore[union-attr]
    if not name or (told.endswith(path) and len(name) <= 100):
        return name or "stream"
    parts = re.split(r"[/?&;#_]", path)
    # The part after a word is its value, as in /token/…, unless the word has it with it, as in token=….
    words = [part if "=" not in part else "" for part in ["", *parts]]
    harmless = [part for word, part in zip(words, parts) if not SECRET_WORD.search(f"{word}/{part}")]
    return f"{name[:100]}_{zlib.crc32('/'.join(harmless).encode()):08x}"
