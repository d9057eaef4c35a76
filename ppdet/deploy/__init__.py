"""Running exported models. Nothing here imports training code; an engine is imported by its own backend only."""

from typing import Any

__all__ = ["DeployError", "Detections", "Detector"]


def __getattr__(name: str) -> Any:
    """The public names, imported when they are first asked for: `--help` of a command here needs none of them."""
    if name not in __all__:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    from ppdet.deploy import detector

    return getattr(detector, name)
