"""Standard error without the lines that image libraries write there by themselves."""

import os
import sys


def quiet_libraries() -> None:
    """Throw away what libraries write to the standard error, such as libjpeg's warnings, one or more for each image.

    What Python writes to sys.stderr still goes there, and so does the log.
    """
    sys.stderr.flush()
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1, encoding="utf-8", errors="backslashreplace")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)
