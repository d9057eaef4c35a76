"""The possible values of global settings, which are read from a class."""

import typing
from dataclasses import dataclass
from typing import Annotated, Any

from ppdet.core.schema import read_args, type_in_words

AtLeast0 = Annotated[int, {"minimum": 0}]
AtLeast1 = Annotated[int, {"minimum": 1}]
Steps = Annotated[int | str, {"minimum": 0, "is_length": True}]


@dataclass(frozen=True)
class Setting:
    """One global setting.

    Attributes:
        annotation: type of the value.
        default: value where nothing sets it. A default that does not fit the type, such as None for a Literal without
            None, means that the setting has no value until it is set.
        meaning: what the setting does, in one line.
        unused: why the setting changes nothing; "" for a setting that does something.
        minimum, maximum: smallest and largest value of a number.
        is_length: whether the value is a number of steps, or a share of the run, such as 35%.
        is_size: whether the value is one positive number, or a list of two.
        keys: entries of a setting that is a mapping. Their defaults fill in what a file leaves out.
        names_folder: whether the value becomes the name of a folder.
        holds_components: whether the value is a list of components, which `Config.create` builds.
    """

    annotation: Any
    default: Any
    meaning: str
    unused: str = ""
    minimum: float | None = None
    maximum: float | None = None
    is_length: bool = False
    is_size: bool = False
    keys: dict[str, "Setting"] | None = None
    names_folder: bool = False
    holds_components: bool = False

    @property
    def expected(self) -> str:
        """What the value may be, in words: "int or null"."""
        if self.is_length:
            return "a number of steps, or a share of the run from 0% to 100%"
        return "a list of components" if self.holds_components else type_in_words(self.annotation)


def read_settings(cls: type, *, are_used: bool = True) -> dict[str, Setting]:
    """Read settings from a class: one for each annotated attribute, with its default.

    The docstring lists their meanings under `Attributes:`; for settings that are not used, the reasons. The annotation
    `Annotated[int, {"minimum": 1}]` gives further fields of `Setting`.
    """
    texts = read_args(cls.__doc__ or "", "Attributes")
    settings = {}
    for name, hint in typing.get_type_hints(cls, include_extras=True).items():
        annotation, fields = typing.get_args(hint) if typing.get_origin(hint) is Annotated else (hint, {})
        meaning, unused = (texts[name], "") if are_used else ("", texts[name])
        settings[name] = Setting(annotation, getattr(cls, name), meaning, unused, **fields)
    return settings
