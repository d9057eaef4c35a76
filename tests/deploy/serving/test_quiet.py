"""What libraries write about images does not reach the server's log."""

import subprocess
import sys


def test_libraries_are_quiet_and_python_is_not():
    code = """
import sys
import cv2, numpy
from ppdet.deploy.serving.quiet import quiet_libraries
whole = cv2.imencode(".jpg", numpy.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=numpy.uint8))[1]
cut = numpy.concatenate([whole[:-900], numpy.frombuffer(bytes([255, 217]), numpy.uint8)])
cv2.imdecode(cut, 1)
print("--", file=sys.stderr, flush=True)
quiet_libraries()
cv2.imdecode(cut, 1)
print("ours", file=sys.stderr)
"""
    lines = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stderr.split("\n")
    assert lines.pop(0) and lines == ["--", "ours", ""]  # the first one is libjpeg's
