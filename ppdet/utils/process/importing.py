"""Importing large libraries without looking for garbage among their objects."""

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def without_garbage_collection() -> Iterator[None]:
    """Import modules within this block with Python's garbage collector switched off.

    Modules are not garbage, but every collection looks at their objects again. Importing Paddle and what training
    needs makes some 150,000 of them, in 2,000 modules, and three full collections. After the block, the objects made
    in it are in the oldest generation, as if collections had passed over them, and the collector is as it was.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if gc.get_freeze_count() == 0:  # else unfreezing would undo what the caller froze
            gc.freeze()
            gc.unfreeze()
        if was_enabled:
            gc.enable()
