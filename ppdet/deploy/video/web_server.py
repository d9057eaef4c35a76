"""What a web server says of a video, by which a file is known from live pictures, and why a video does not come."""

import http.client
import re
import string
import urllib.error
import urllib.parse
import urllib.request
from typing import NamedTuple

from ppdet.utils.disk.redirects import ToHttpOnly
from ppdet.utils.disk.steady_http import SteadyHandler, SteadySecureHandler

# A playlist and pictures that replace each other are live, whatever the length of the answer.
LIVE_TYPES = re.compile(r"multipart/|mpegurl|dash\+xml", re.I)
PLAYLIST = b"#EXTM3U"
NO_RANGES = (
    "the server cannot send parts of it (it has no Range requests), which an MP4 with its index at the end needs: "
    "download the video, or move the index with ffmpeg -i VIDEO -c copy -movflags +faststart NEW.mp4"
)


class Answer(NamedTuple):
    """What a web server answers.

    has_end: whether the answer is a file with a length. has_ranges: whether the server can send parts of it. trouble:
    why the server sends no video; empty if it may be one.
    """

    has_end: bool
    has_ranges: bool
    trouble: str


def ask(address: str, seconds: float) -> Answer:
    """Ask a web server for a video, as FFmpeg does, and read the head of its answer only.

    Args:
        address: address with http or https; it may have user and password.
        seconds: how long the server may take to answer.
    """
    try:
        with _opener(address).open(_request(address), timeout=seconds) as response:
            kind = response.headers.get_content_type()
            if kind == "text/html":
                return Answer(False, False, "the server sends a web page, and no video")
            has_end = bool(response.length) and not LIVE_TYPES.search(kind)
            if has_end and response.read(len(PLAYLIST)) == PLAYLIST:
                has_end = False
            return Answer(has_end, response.status == 206, "")
    except urllib.error.HTTPError as error:
        password = ": are user and password right?" if error.code in (401, 403) else ""
        return Answer(
            False, False, f"the server answers {error.code} {http.client.responses.get(error.code, '')}{password}"
        )
    except TimeoutError:
        return Answer(False, False, f"the server did not answer within {seconds:g} s")
    except urllib.error.URLError as error:
        if isinstance(error.reason, TimeoutError):
            return Answer(False, False, f"the server did not answer within {seconds:g} s")
        why = f" ({error.reason})" if isinstance(error.reason, OSError) else ""  # others may have the address in them
        return Answer(False, False, f"the server cannot be reached{why}")
    except (http.client.HTTPException, OSError, ValueError) as error:
        return Answer(False, False, f"the server's answer is not one of HTTP ({type(error).__name__})")


def _request(address: str) -> urllib.request.Request:
    return urllib.request.Request(_split(address)[0], headers={"Range": "bytes=0-", "User-Agent": "ppdet"})


def _opener(address: str) -> urllib.request.OpenerDirector:
    """It sends the user and password of the address, if the server asks for them."""
    place, user, password = _split(address)
    passwords = urllib.request.HTTPPasswordMgrWithDefaultRealm()
    if user:
        passwords.add_password(None, place, user, password)
    kinds = (urllib.request.HTTPBasicAuthHandler, urllib.request.HTTPDigestAuthHandler)
    handlers = [kind(passwords) for kind in kinds]
    return urllib.request.build_opener(ToHttpOnly, SteadyHandler, SteadySecureHandler, *handlers)


def _split(address: str) -> tuple[str, str, str]:
    """Return an address without user and password, the user, and the password."""
    protocol, host, path = re.fullmatch(r"([^:]*://)([^/?#]*)(.*)", address, re.S).groups()  # type: ignore[union-attr]
    login, _, place = host.rpartition("@")
    user, _, password = login.partition(":")
    path = urllib.parse.quote(path, safe=string.punctuation)  # letters beyond ASCII are %-encoded
    return protocol + place + path, urllib.parse.unquote(user), urllib.parse.unquote(password)
