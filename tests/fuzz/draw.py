"""Random decisions of a case, and values that are likely to be handled wrongly.

Values come from hypothesis, whose strategies are good at numbers and texts that nobody thinks of, and from lists of
what people try. All of them are functions of the seed and the number of the case.
"""

import copy
import functools
import json
import pickle
import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")
POOL_CASES = 1000  # cases that share values drawn by hypothesis
POOL_SIZE = 100

TEXTS = [
    *[
        "",
        " ",
        "\0",
        "a\0b",
        "\r\n",
        "\ufeff",
        "\x1b[31mred\x1b[0m",
        "\x1b]0;title\x07",
        "\x9b31m",
        "\x7f",
        "\u202eabc",
    ],
    *["\u2028", "\ud800", "a\udcffb", "\U0010ffff", "e\u0301", "\u0130", "ß", "{}", "{0.__class__}", "%s%n", "%(x)s"],
    *["../../x", "/dev/zero", "/dev/full", "/proc/self/mem", "~nosuchuser/x", "~", ".", "..", "/", "//", "a/" * 600],
    *["a" * 255, "a" * 256, "a" * 70_000, "-o", "--help", "$(touch canary)", "`touch canary`", "; touch canary"],
    *[
        "__class__",
        "__import__('os').system('touch canary')",
        "NaN",
        "Infinity",
        "null",
        "true",
        "1e999",
        "0x10",
        "1_0",
    ],
    *[
        "http://127.0.0.1:9/x",
        "s3://bucket/x",
        "file:///etc/hostname",
        "memory://x",
        "CON",
        "*",
        "[",
        "a\\b",
        "=",
        "=1",
    ],
]
NUMBERS = [
    *[0, -1, 1, 2, 3, 255, 256, 65535, 65536, 2**31 - 1, 2**31, -(2**31) - 1, 2**32, 2**53, 2**53 + 1],
    *[2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 2**64, 2**64 - 1, 10**18, 10**30, 10**400, -(10**400)],
    *[0.0, -0.0, 0.5, -0.5, 1.5, 1e-320, 1e30, 1e300, -1e300, 1e308, 3.4e38, 3.5e38, float("inf"), float("-inf")],
    *[float("nan"), 1e16, 9007199254740993.0],
]


class Pool(NamedTuple):
    """Values by hypothesis."""

    texts: list[str]
    numbers: list[int | float]
    trees: list[Any]


@functools.lru_cache(maxsize=4)
def pool(number: int) -> Pool:
    command = [sys.executable, str(Path(__file__).with_name("values.py")), str(number), str(POOL_SIZE)]
    return Pool(*pickle.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout))


class Draw(random.Random):
    """The random decisions of one case, a function of the kind, the seed and the number of the case."""

    def __new__(cls, *_: object) -> "Draw":
        return super().__new__(cls)

    def __init__(self, kind: str, seed: int, number: int) -> None:
        super().__init__(f"{kind} {seed} {number}")
        self.number_of_case = number
        self.odd_left: float = float("inf")  # values that may still be odd
        self._pool_number = seed * 1_000_003 + number // POOL_CASES

    @property
    def pool(self) -> Pool:
        return pool(self._pool_number)

    def chance(self, share: float) -> bool:
        return self.random() < share

    def one(self, choices: Sequence[T]) -> T:
        return self.choice(choices)

    def mostly(self, usual: T, odd: Sequence[T], share: float = 0.1) -> T:
        """The usual value, or in this share of calls one of the odd ones, as long as the case may have them."""
        if self.odd_left < 1 or not self.chance(share):
            return usual
        self.odd_left -= 1
        return self.one(odd)

    def text(self) -> str:
        return self.one(TEXTS if self.chance(0.5) else self.pool.texts)

    def number(self) -> int | float:
        return self.one(NUMBERS if self.chance(0.6) else self.pool.numbers)

    def tree(self) -> Any:
        """A value as JSON has it."""
        return copy.deepcopy(self.one(self.pool.trees))

    def value(self) -> Any:
        """Anything that JSON or YAML can hold."""
        return self.one([self.text, self.number, self.number, self.tree, self.nested, lambda: None, lambda: True])()

    def nested(self) -> Any:
        """A value inside of lists and mappings, sometimes very many of them."""
        value: Any = self.one([0, "x", None])
        for _ in range(self.one([1, 2, 5, 50, 90, 300])):
            value = [value] if self.chance(0.5) else {"a": value}
        return value


def dump(value: Any) -> str:
    """JSON of any value, also of numbers with thousands of digits, and of surrogates."""
    return json.dumps(value, default=repr)
