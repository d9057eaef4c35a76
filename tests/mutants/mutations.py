"""Small mistakes to put into a source file, one at a time, made by cosmic-ray's operators and one of our own."""

import ast
import hashlib
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from difflib import SequenceMatcher

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.operators.operator import Operator
from cosmic_ray.plugins import get_operator

# cosmic-ray has every operator of Python for every other one: of these, one or two tell as much as eleven.
PAIRS = {
    "BinaryOperator": "Add_Sub Sub_Add Mul_Div Div_Mul FloorDiv_Mul Mod_Mul Pow_Mul BitOr_BitAnd BitAnd_BitOr",
    "ComparisonOperator": "Eq_NotEq NotEq_Eq Lt_LtE LtE_Lt Gt_GtE GtE_Gt Lt_GtE GtE_Lt Gt_LtE LtE_Gt Is_IsNot IsNot_Is",
    "UnaryOperator": "USub_UAdd Delete_USub Delete_Not Delete_Invert",
}
SINGLE = (
    *("AddNot", "ReplaceTrueWithFalse", "ReplaceFalseWithTrue", "ReplaceAndWithOr", "ReplaceOrWithAnd"),
    *("ReplaceBreakWithContinue", "ReplaceContinueWithBreak", "ExceptionReplacer", "NumberReplacer"),
    *("ZeroIterationForLoop", "RemoveDecorator"),
)


class DropKeywordArgument(Operator):
    """Leaves one keyword argument of a call out: a setting that is ignored, a draw without its seed."""

    def mutation_positions(self, node: object) -> Iterator[tuple]:
        for argument in self._arguments(node):
            yield argument.start_pos, argument.end_pos

    def mutate(self, node: object, index: int) -> object:
        argument = self._arguments(node)[index]
        place = node.children.index(argument)
        last = place + 1 >= len(node.children)
        # With the comma behind it, or before it where it is the last one.
        del node.children[max(place - 1, 0) if last else place : place + (1 if last else 2)]
        return node

    @staticmethod
    def _arguments(node: object) -> list:
        if node.type != "arglist":
            return []
        return [child for child in node.children if child.type == "argument" and child.children[1] == "="]

    @classmethod
    def examples(cls) -> tuple:
        return ()


@dataclass(frozen=True)
class Place:
    """Where an operator can change a file, known without changing it.

    file: relative to the root. number: of the line, from 1. line: its text. operator, occurrence: as cosmic-ray counts.
    repeat: how often the operator could change such a line before.
    """

    room: str
    file: str
    number: int
    line: str
    operator: Operator
    occurrence: int
    repeat: int

    def rank(self, seed: int) -> str:
        """A mutant's rank; the sample consists of the lowest ranks. Changes of other lines do not change it."""
        text = f"{seed} {self.file} {self.line.strip()} {type(self.operator).__name__} {self.repeat}"
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Mutant:
    """A changed source file.

    name: its file, the changed lines before and after. code: the whole file.
    """

    place: Place
    name: str
    code: str


def operators() -> Iterator[Operator]:
    names = list(SINGLE)
    for kind, pairs in PAIRS.items():
        names += [f"Replace{kind}_{pair}" for pair in pairs.split()]
    for name in names:
        try:
            yield get_operator(f"core/{name}")()
        except KeyError:
            raise SystemExit(
                f"error: cosmic-ray has no operator {name}: install what pyproject.toml asks for"
            ) from None
    yield DropKeywordArgument()


def places(room: str, file: str, source: str, absent: Collection[str] = ()) -> Iterator[Place]:
    """Where the operators can change a file, but for functions that do not run here."""
    lines = source.splitlines()
    nodes = list(ast_nodes(get_ast(source)))
    for operator in operators():
        repeats: Counter = Counter()
        positions = ((node, start) for node in nodes for start, _ in operator.mutation_positions(node))
        for occurrence, (node, (number, _)) in enumerate(positions):
            line = lines[number - 1].strip()
            separator = node.parent is not None and node.parent.type in (
                "parameters",
                "lambdef",
            )  # the * of (self, *, a)
            if not separator and not functions_around(node) & set(absent):
                yield Place(room, file, number, line, operator, occurrence, repeats[line])
            repeats[line] += 1


def functions_around(node: object) -> set[str]:
    names = set()
    while node is not None:
        if node.type == "funcdef":
            names.add(node.name.value)
        node = node.parent
    return names


def mutant(place: Place, source: str) -> Mutant | None:
    """None where the change is no Python, or no change."""
    code = mutate_code(source, place.operator, place.occurrence)
    try:
        if code is None or ast.dump(ast.parse(code)) == ast.dump(ast.parse(source)):
            return None
    except SyntaxError:
        return None
    before, after = difference(source.splitlines(), code.splitlines())
    repeat = f" ({place.repeat + 1})" if place.repeat else ""
    return Mutant(place, f"{place.file}: {before} -> {after}{repeat}", code)


def difference(lines: list[str], changed: list[str]) -> tuple[str, str]:
    """The lines from the first to the last that differ, and what they become."""
    parts = [part for part in SequenceMatcher(None, lines, changed, autojunk=False).get_opcodes() if part[0] != "equal"]
    first, last = parts[0], parts[-1]
    before, after = lines[first[1] : last[2]], changed[first[3] : last[4]]
    return tuple(" ".join(" ".join(text).split()) for text in (before, after))
