"""Detection in more images than one process can do: a job on Ray that can be killed at any time and resumed."""

from typing import Any

__all__ = ["BatchJob", "run_batch"]


def __getattr__(name: str) -> Any:
    """Import the public names when they are first used: `--help` needs none of them."""
    if name not in __all__:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    from ppdet.deploy.batch import job

    return getattr(job, name)
