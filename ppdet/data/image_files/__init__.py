"""Image files from strangers: what their headers say, and how much work decoding them would be.

A file of some kilobytes may ask a decoder for minutes of processor time or for gigabytes of memory. All images that are
decoded anywhere, in training, evaluation, batch jobs and the server, pass `check_header` first.
"""

from ppdet.data.image_files.header import KINDS, check_header, read_size
from ppdet.data.image_files.size import ImageHeader, Unreadable

__all__ = ["KINDS", "ImageHeader", "Unreadable", "check_header", "read_size"]
