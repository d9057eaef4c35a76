"""The component that builds a Paddle optimizer from a configuration."""

import inspect
import re
from typing import Any

import paddle
from paddle import nn
from paddle.regularizer import L1Decay, L2Decay

from ppdet.core.workspace import register
from ppdet.optimizer.clip import ClipByNorm
from ppdet.utils.ranges import require_choice, require_number

OPTIMIZERS = {name: getattr(paddle.optimizer, name) for name in ("Momentum", "SGD", "Adam", "AdamW")}
DEFAULT_OPTIMIZER: dict[str, Any] = {"type": "Momentum", "momentum": 0.9}
DEFAULT_REGULARIZER: dict[str, Any] = {"type": "L2", "factor": 0.0001}
REGULARIZERS = {"L1": L1Decay, "L2": L2Decay}


def require_quick_pattern(pattern: str) -> None:
    """Raise ValueError unless a text is a regular expression that takes little time on the name of a parameter.

    The time for `(a+)+$` doubles with each letter of a name, and each `.*` multiplies it by the name's length.
    """
    name = f"OptimizerBuilder.param_groups: the pattern {pattern!r:.60}"
    plain = re.sub(r"\\.|\[\^?\]?[^\]]*\]", "x", pattern)  # without escapes and sets of letters
    repeats = len(re.findall(r"[*+{]|(?<![(*+?}])\?", plain)) + len(re.findall(r"\|[^()|]*\)", plain))
    if len(pattern) > 200 or repeats > 4 or re.search(r"\)[*+{]", plain):
        raise ValueError(f"{name} may take too long: expected at most 200 letters, 4 repeats, and no repeated group")
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"{name} is no regular expression: {error}") from None


@register
class OptimizerBuilder:
    """Builds the optimizer of a model.

    Args:
        optimizer: a mapping with `type`, one of Momentum, SGD, Adam and AdamW, and any parameters of that Paddle class,
            for example {type: AdamW, weight_decay: 0.05}; null means the default.
        regularizer: a mapping with `type`, L1 or L2, and `factor`; null for none. A parameter's own regularizer
            replaces it. AdamW uses its `weight_decay` instead.
        clip_grad_by_norm: largest global norm of the gradients; null for no limit.
        clip_grad_by_value: largest absolute value of a gradient's elements; null for no limit.
        param_groups: a list of mappings with `params`, a list of regular expressions that match names of parameters,
            and optionally `learning_rate`, a factor of the rate; `replace`, true or false; and `weight_decay`, an L2
            factor in place of the regularizer's. A parameter belongs to the first group that matches. Some layers give
            parameters a factor of their own, such as ResNet.lr_mult_list and the 2 of the head's tower biases:
            `learning_rate` multiplies this factor, or replaces it with `replace: true`. Example:
            [{params: [backbone], learning_rate: 0.1}].
    """

    def __init__(
        self,
        *,
        optimizer: dict | None = DEFAULT_OPTIMIZER,
        regularizer: dict | None = DEFAULT_REGULARIZER,
        clip_grad_by_norm: float | None = None,
        clip_grad_by_value: float | None = None,
        param_groups: list | None = None,
    ) -> None:
        # A null removes a parameter that a base file set, such as the momentum of another type.
        options = {k: v for k, v in (optimizer or DEFAULT_OPTIMIZER).items() if v is not None}
        kind = options.pop("type", "Momentum")
        require_choice("OptimizerBuilder.optimizer.type", kind, list(OPTIMIZERS))
        self.build_optimizer = OPTIMIZERS[kind]
        known = inspect.signature(self.build_optimizer.__init__).parameters
        for name in options:
            if name not in known:
                raise ValueError(f"OptimizerBuilder.optimizer.{name} is not a parameter of paddle.optimizer.{kind}")
            if isinstance(known[name].default, float) and not isinstance(options[name], (int, float)):
                raise ValueError(f"OptimizerBuilder.optimizer.{name} is {options[name]!r}; it must be a number")
        if "weight_decay" in options and kind != "AdamW":
            raise ValueError(
                f"OptimizerBuilder.optimizer.weight_decay is AdamW's; {kind} takes it from the regularizer"
            )
        self.options = options
        self.weight_decay = self.make_regularizer(regularizer)
        if clip_grad_by_norm is not None and clip_grad_by_value is not None:
            raise ValueError("OptimizerBuilder: give clip_grad_by_norm or clip_grad_by_value, not both")
        for name, limit in (("clip_grad_by_norm", clip_grad_by_norm), ("clip_grad_by_value", clip_grad_by_value)):
            if limit is not None:
                require_number(f"OptimizerBuilder.{name}", limit, above=0)
        self.grad_clip = None
        if clip_grad_by_norm is not None:
            self.grad_clip = ClipByNorm(clip_grad_by_norm)
        elif clip_grad_by_value is not None:
            self.grad_clip = nn.ClipGradByValue(clip_grad_by_value)
        self.param_groups = param_groups or []
        for group in self.param_groups:
            if not isinstance(group, dict):
                raise ValueError(f"OptimizerBuilder.param_groups has {group!r:.60}; it must be a mapping with params")
            unknown = set(group) - {"params", "learning_rate", "replace", "weight_decay"}
            if unknown or "params" not in group:
                raise ValueError(
                    f"OptimizerBuilder.param_groups: {group} needs params, and may have learning_rate, replace and "
                    "weight_decay"
                )
            patterns = group["params"]
            if not isinstance(patterns, list) or not all(isinstance(pattern, str) for pattern in patterns):
                raise ValueError(
                    f"OptimizerBuilder.param_groups: params is {patterns!r:.60}; it must be a list of texts"
                )
            for pattern in patterns:
                require_quick_pattern(pattern)
            for name in ("learning_rate", "weight_decay"):
                if name in group and type(group[name]) not in (int, float):
                    raise ValueError(f"OptimizerBuilder.param_groups: {name} is {group[name]!r:.60}; expected a number")
            if group.get("replace") and "learning_rate" not in group:
                raise ValueError(f"OptimizerBuilder.param_groups: {group} has replace, but no learning_rate")
            if "weight_decay" in group and self.build_optimizer is paddle.optimizer.AdamW:
                raise ValueError(
                    "OptimizerBuilder.param_groups: AdamW decays all weights alike, or none: no weight_decay"
                )

    @staticmethod
    def make_regularizer(regularizer: dict[str, Any] | None) -> Any:
        """Paddle's regularizer, or None."""
        if not regularizer:
            return None
        unknown = set(regularizer) - {"type", "factor"}
        kind = regularizer.get("type", "L2")
        if unknown or kind not in REGULARIZERS or not isinstance(regularizer.get("factor"), (int, float)):
            raise ValueError(
                f"OptimizerBuilder.regularizer is {regularizer}; it must be {{type: L1 or L2, factor: number}}"
            )
        return REGULARIZERS[kind](float(regularizer["factor"]))

    def __call__(self, learning_rate: Any, model: nn.Layer) -> paddle.optimizer.Optimizer:
        """The optimizer of the model's trainable parameters; `learning_rate` is a number or a Paddle scheduler."""
        options = dict(self.options)
        self.apply_groups(model)
        parameters = [p for p in model.parameters() if p.trainable]
        if self.build_optimizer is paddle.optimizer.AdamW:
            # AdamW has its own weight decay; parameters to which their layer gives no weight decay are excluded.
            undecayed = {p.name for p in parameters if p.regularizer is not None and p.regularizer._coeff == 0}
            options["apply_decay_param_fun"] = lambda name: name not in undecayed
        else:
            options["weight_decay"] = self.weight_decay
        return self.build_optimizer(
            learning_rate=learning_rate, parameters=parameters, grad_clip=self.grad_clip, **options
        )

    def apply_groups(self, model: nn.Layer) -> None:
        """Set the factor and the weight decay of each group's parameters.

        Paddle's parameter groups are not used, since they overwrite the factors that layers gave their parameters.
        """
        free = {name: p for name, p in model.named_parameters() if p.trainable}
        for group in self.param_groups:
            found = [name for name in free if any(re.search(pattern, name) for pattern in group["params"])]
            if not found:
                raise ValueError(
                    f"OptimizerBuilder.param_groups: no trainable parameter's name matches {group['params']}"
                )
            for parameter in (free.pop(name) for name in found):
                if group.get("replace"):
                    parameter.optimize_attr["learning_rate"] = 1.0
                parameter.optimize_attr["learning_rate"] *= group.get("learning_rate", 1.0)
                if "weight_decay" in group:
                    parameter.regularizer = L2Decay(group["weight_decay"])
