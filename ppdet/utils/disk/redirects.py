"""Redirects of web servers that downloads follow."""

import urllib.error
import urllib.parse
import urllib.request
from typing import Any


class ToHttpOnly(urllib.request.HTTPRedirectHandler):
    """Follows redirects to http and https, but not from https to http, to ftp or to anything else."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        scheme = urllib.parse.urlparse(newurl).scheme.lower()
        if scheme not in ("http", "https") or (scheme == "http" and req.type == "https"):
            raise urllib.error.URLError(f"it redirects to {newurl:.200}, which is neither https nor http as before")
        return super().redirect_request(req, fp, code, msg, headers, newurl)
