"""Which values fit which annotations, and how a type is said."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, Optional, Union

import pytest

from ppdet.core.schema import first_sentence, fits, list_item, read_schema, type_in_words


def test_meanings_come_from_the_docstrings_of_a_class_and_its_bases():
    class Base:
        """Reads.

        Args:
            size: images
                of a batch.

            seed (int): of everything
        """

        def __init__(self, *, size: int, seed: int) -> None:
            """Make a reader."""

    class Reader(Base):
        """Reads much. Also: this is no parameter: at all.

        Returns:
            size: no meaning of a parameter.
        """

        def __init__(self, *, size: int, seed: int, more: int, most: int = 1) -> None:
            """Make a big reader.

            Args:
                more, most: files: two
                seed: another one
            """

    schema = read_schema(Reader)
    assert schema.summary == "Reads much"
    meanings = {name: parameter.meaning for name, parameter in schema.parameters.items()}
    assert meanings == {"size": "images of a batch.", "seed": "another one", "more": "files: two", "most": "files: two"}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("One. Two.", "One"),
        ("From 0.5 to 1. `a` is b.", "From 0.5 to 1"),
        ("such as e.g. this\n  one", "such as e.g. this one"),
        ("", ""),
    ],
)
def test_first_sentence(text, sentence):
    assert first_sentence(text) == sentence


@pytest.mark.parametrize(
    ("value", "annotation", "result"),
    [
        (1, int, True),
        (True, int, False),
        (1.0, int, False),
        ("1", int, False),
        (1, float, True),
        (True, float, False),
        (1, bool, False),
        (False, bool, True),
        (None, int, False),
        (None, Optional[int], True),
        ("a", Literal["a", "b"], True),
        ("c", Literal["a", "b"], False),
        (1, Literal[1, "b"], True),
        (True, Literal[1, "b"], False),
        (True, Literal[True, "b"], True),
        ([1, 2], Sequence[int], True),
        ([1, True], Sequence[int], False),
        ([], Sequence[int], True),
        ("ab", Sequence[str], False),
        (["a", "b"], Sequence[str], True),
        ([1] * 1000 + ["a"], list[int], False),
        ([[1, 2], [3]], Sequence[Sequence[int]], True),
        ([[1, 2], [3.5]], Sequence[Sequence[int]], False),
        (5, Union[int, Sequence[int]], True),
        ([5], Union[int, Sequence[int]], True),
        ([False], Union[int, Sequence[int]], False),
        ({"a": 1}, dict, True),
        ({"a": 1}, dict[str, int], True),
        ({"a": True}, dict[str, int], False),
        ({"a": {"b": [1]}}, Mapping[str, Any], True),
        ([1, "a", None, True], list, True),
        ([1], Sequence, True),
        ("a", Sequence, False),
        ([True], Any, True),
        (True, object, True),
    ],
)
def test_fits(value, annotation, result):
    assert fits(value, annotation) is result


@pytest.mark.parametrize(
    ("annotation", "text"),
    [
        (int, "int"),
        (bool, "true or false"),
        (Optional[float], "float or null"),
        (Union[int, Sequence[int]], "int or list of int"),
        (Sequence[Sequence[int]], "list of list of int"),
        (list, "list"),
        (Literal["a", "b"], "one of 'a', 'b'"),
        (dict[str, float], "mapping of text to float"),
        (dict, "mapping"),
        (Any, "any value"),
        (int | Sequence[int | Sequence[int]] | None, "int or list of (int or list of int) or null"),
    ],
)
def test_type_in_words(annotation, text):
    assert type_in_words(annotation) == text


@pytest.mark.parametrize(
    ("annotation", "item"),
    [
        (Optional[Sequence[float]], float),
        (Union[Sequence[int], Sequence[Sequence[int]]], None),
        (int, None),
        (list, None),
        (Sequence[Callable], Callable),
    ],
)
def test_list_item(annotation, item):
    assert list_item(annotation) is item
