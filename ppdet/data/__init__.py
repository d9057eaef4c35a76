"""From files to batches: data sets (source), transforms and readers. Importing it registers them all.

Nothing here imports paddle before a reader makes its first batch.
"""

from ppdet.data import reader, semi_reader, source, transform
from ppdet.data.errors import DataError, ImageError

__all__ = ["DataError", "ImageError", "reader", "semi_reader", "source", "transform"]
