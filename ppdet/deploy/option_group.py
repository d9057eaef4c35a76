"""A command-line option that turns something on, such as --tta, with the options that set it."""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any, NoReturn

from ppdet.utils.errors import DeployError


@dataclass(frozen=True)
class OptionGroup:
    """Options of one class of settings.

    Args:
        switch: the option that turns it on, such as `tta` for --tta; without it, the others are refused.
        settings: name of the class whose fields the others set, such as `TTA`.
        fields: by option, such as `tta_scales` for --tta_scales, the field that it sets, such as `scales`.
    """

    switch: str
    settings: str
    fields: Mapping[str, str]

    @property
    def options(self) -> set[str]:
        """The names of all its options, the switch among them."""
        return {self.switch, *self.fields}

    def read(self, arguments: argparse.Namespace) -> dict[str, Any] | None:
        """Values of the options that were given, by field; None without the switch.

        Raises:
            DeployError: an option was given without the switch.
        """
        given = {option: getattr(arguments, option) for option in self.fields}
        given = {option: value for option, value in given.items() if value is not None}
        if getattr(arguments, self.switch):
            return {self.fields[option]: value for option, value in given.items()}
        if given:
            raise DeployError(f"--{next(iter(given))} has no effect without --{self.switch}: add that, or leave it out")
        return None

    def refuse(self, field: str, value: Any, expected: str) -> NoReturn:
        """Raise the DeployError for a field's value, which names the option that sets the field."""
        option = next(option for option, name in self.fields.items() if name == field)
        raise DeployError(f"--{option} ({self.settings}.{field}) is {value!r:.200}, expected {expected}")


def is_real(value: Any) -> bool:
    """Whether a value is a number, also one of NumPy's; true and false are none."""
    return isinstance(value, Real) and not isinstance(value, bool)
