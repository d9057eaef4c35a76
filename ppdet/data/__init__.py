"""From files to batches: data sets (sources), transforms and readers. Importing it registers them all.

Nothing here imports paddle before a reader makes its first batch.
"""

from ppdet.data import sources, transforms
from ppdet.data.loading import reader, semi_reader

__all__ = ["reader", "semi_reader", "sources", "transforms"]
