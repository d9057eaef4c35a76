"""From files to batches: data sets (sources), transforms and readers. Importing this package registers all of them.

Paddle is not imported before a reader makes its first batch.
"""

from ppdet.data import sources, transforms
from ppdet.data.loading import reader, semi_reader

__all__ = ["reader", "semi_reader", "sources", "transforms"]
