"""Losses of a step that consists of several passes."""

from collections.abc import Sequence
from typing import Any

from paddle import Tensor, nn

from ppdet.core.contracts import with_article
from ppdet.utils.errors import ConfigError


def check_losses(losses: Any, model: nn.Layer) -> dict[str, Tensor]:
    """Return the losses of a batch; ConfigError unless they are a dict of tensors with a scalar called `loss`."""
    if isinstance(losses, dict) and isinstance(losses.get("loss"), Tensor) and losses["loss"].size == 1:
        return losses
    names = ", ".join(map(str, losses)) if isinstance(losses, dict) else ""
    if isinstance(losses, dict) and isinstance(losses.get("loss"), Tensor):
        names += f", where `loss` has the shape {list(losses['loss'].shape)}"
    raise ConfigError(
        f"{type(model).__name__}: the loss of a batch is {with_article(type(losses))}{names and f' of {names}'}; "
        "expected a dict of tensors by name, among them `loss`, the scalar to minimize (docs/EXTENDING.md)"
    )


def total_losses(losses: Sequence[dict[str, Tensor]], weights: Sequence[float]) -> dict[str, Tensor]:
    """Return the losses of a step from the losses of its passes.

    `loss` is the sum weighted by `weights`, other single numbers are means, and tensors such as counts are added up.
    """
    total: dict[str, Any] = {}
    for name in dict.fromkeys(name for one in losses for name in one):
        parts = [one[name] for one in losses if name in one]
        total[name] = sum(parts) / len(parts) if parts[0].ndim == 0 else sum(parts)
    total["loss"] = sum(one["loss"] * weight for one, weight in zip(losses, weights))
    return total


def scalars(losses: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return those losses of a step that are single numbers, which logs and histories show."""
    return {name: value for name, value in losses.items() if value.ndim == 0}
