"""What a process does before it is copied."""

import contextlib
import gc
from collections.abc import Iterator


@contextlib.contextmanager
def objects_stay_here() -> Iterator[None]:
    """Processes that are forked within the block never finalise, by garbage collection, what they inherit.

    Among the reference cycles that wait for the collector may be tensors on a GPU. A forked process cannot use its
    parent's GPU, and their destructors, which free memory there, would end it. Everything alive is moved to the
    generation that is not looked at; here it is moved back after the block. Forked processes of `multiprocessing` end
    by os._exit, and so run no destructors at their end either.
    """
    if gc.get_freeze_count():  # somebody has decided on this
        gc.freeze()
        yield
        return
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
