"""Running exported models: read detector.py first.

backends/ has the engines, serving/ the HTTP server, batch/ the batch jobs, and video_*.py videos and cameras. Nothing
here imports training code, and an engine is imported by its own backend only.
"""

from typing import Any

__all__ = ["DeployError", "Detections", "Detector"]


def __getattr__(name: str) -> Any:
    """Import the public names when they are first used: `--help` of a command needs none of them."""
    if name not in __all__:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    from ppdet.deploy import detector

    return getattr(detector, name)
