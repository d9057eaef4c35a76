"""Exported detectors over more images than one process can do: a Ray Data job that can be killed and goes on."""

from typing import Any

__all__ = ["BatchJob", "run_batch"]


def __getattr__(name: str) -> Any:
    """The public names, imported when they are first asked for: `--help` needs none of them."""
    if name not in __all__:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    from ppdet.deploy.batch import job

    return getattr(job, name)
