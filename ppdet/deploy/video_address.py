"""Addresses of streams: which protocols are opened, and how addresses are shown without the secrets in them."""

import re

from ppdet.utils.errors import DataError

# FFmpeg knows many more, some of which read local files or join other addresses. A playlist that one of these sends
# may name http and https only, which FFmpeg itself takes care of.
PROTOCOLS = ("http", "https", "rtmp", "rtmps", "rtsp", "rtsps")
HIDDEN = "***"
# A path that may have a secret in it, such as /user=admin_password=… of some cameras, or /live/token/….
MAY_BE_SECRET = re.compile(r"[=&;@%]|pass|pwd|secret|token|auth|key", re.I)


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
    """Return the name, without a suffix, of the files with the results of a stream: HOST_PATH, without secrets."""
    name = re.sub(r"[^A-Za-z0-9.-]+", "_", shown(address).partition("://")[2]).strip("_.-")
    return name[:100] or "stream"
