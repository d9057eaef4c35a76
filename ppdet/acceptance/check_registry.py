"""All checks, in the order in which they run."""

import fnmatch
import importlib
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ppdet.acceptance.context import Context
from ppdet.acceptance.facts import Facts, Need
from ppdet.acceptance.outcomes import Outcome
from ppdet.utils.errors import UserError, nearest


class CheckError(UserError, ValueError):
    """No check, or no kit, can be run as asked."""


@dataclass(frozen=True)
class Group:
    """Checks that share processes. title: a heading. environment: variables that these processes start with."""

    name: str
    title: str
    environment: dict = field(default_factory=dict)


# Cheap and fundamental ones first: a failure there explains those that follow. Where operators are compared at 1e-4,
# NVIDIA's libraries must not round to TF32.
EXACT = {"NVIDIA_TF32_OVERRIDE": "0"}
GROUPS = (
    Group("environment", "Environment"),
    Group("nms", "Non-maximum suppression", EXACT),
    Group("operators", "Operators beside the CPU's", EXACT),
    Group("training", "Training beside the CPU's"),
    Group("guard", "Updates that are not made"),
    Group("speed", "Speed of training"),
    Group("memory", "Memory and copies"),
    Group("detect", "Evaluation, inference and export"),
    Group("engines", "Engines that run exports"),
    Group("cards", "Several cards"),
)


class Shared(NamedTuple):
    """What several checks use and the first of them makes. title: what it is. seconds: on one GPU, about."""

    title: str
    seconds: float


# By the name that `Context.shared` has it by. The CPU's sides are 50 steps by Paddle's own operators.
SHARED = {
    "cpu_momentum": Shared("the CPU's losses of Momentum", 15),
    "cpu_adamw": Shared("the CPU's losses of AdamW", 15),
    "trained": Shared("the detector: 800 steps of training on the device", 25),
    "cpu_dense_teacher": Shared("the CPU's losses of DenseTeacher", 35),
    "reference_ap": Shared("the detector's AP on the CPU", 8),
    "exported": Shared("the detector's export in all formats", 30),
}
SHARED_LIMIT = 5  # times these seconds may pass until it is made


@dataclass(frozen=True)
class Check:
    """A question to the device.

    Args:
        name: group/name, as `--only` takes it. title: what is compared with what, in one line.
        advice: what a failure means and what to do about it, in a few sentences; the report and docs/GPU.md have it.
        run: finds out.
        needs: without these it is skipped.
        uses: names in SHARED. Whichever check comes first makes them, for which it has more time.
        limit: seconds after which it is stopped, which is a failure. seconds: what it takes on one GPU, about; what is
            left of a run is estimated from these. Both without what it makes of `uses`.
    """

    name: str
    title: str
    advice: str
    run: Callable[[Context], Outcome]
    needs: tuple[Need, ...] = ()
    uses: tuple[str, ...] = ()
    limit: float = 60.0
    seconds: float = 5.0

    @property
    def group(self) -> str:
        return self.name.partition("/")[0]

    def missing(self, facts: Facts) -> str:
        """Why it cannot be made on this device, or an empty text."""
        return next((reason for need in self.needs for reason in [need.missing(facts)] if reason), "")

    def limit_in(self, context: Context) -> float:
        """Seconds that it may take in this run, with what it has to make."""
        return self.limit + sum(SHARED_LIMIT * SHARED[name].seconds for name in self.uses if not context.is_made(name))


CHECKS: dict[str, Check] = {}


def check(
    name: str,
    *,
    title: str,
    advice: str,
    needs: Sequence[Need] = (),
    uses: Sequence[str] = (),
    limit: float = 60.0,
    seconds: float = 5.0,
) -> Callable[[Callable[[Context], Outcome]], Callable[[Context], Outcome]]:
    """Register the function below as a check; see `Check`.

    Raises:
        ValueError: the group is none, another check has the name, or nothing in SHARED has one of `uses`.
    """

    def register(run: Callable[[Context], Outcome]) -> Callable[[Context], Outcome]:
        if name.partition("/")[0] not in {group.name for group in GROUPS}:
            raise ValueError(f"check {name!r}: its group is not among GROUPS of ppdet/acceptance/check_registry.py")
        if name in CHECKS and CHECKS[name].run.__module__ != run.__module__:
            raise ValueError(f"check {name!r} is there twice")
        if not set(uses) <= set(SHARED):
            raise ValueError(
                f"check {name!r}: {set(uses) - set(SHARED)} not in SHARED of ppdet/acceptance/check_registry.py"
            )
        CHECKS[name] = Check(name, title, " ".join(advice.split()), run, tuple(needs), tuple(uses), limit, seconds)
        return run

    return register


def all_checks() -> list[Check]:
    """Every check of `ppdet.acceptance.checks`, and what else was registered, group by group."""
    package = importlib.import_module("ppdet.acceptance.checks")
    for module in sorted(found.name for found in pkgutil.iter_modules(package.__path__)):
        importlib.import_module(f"{package.__name__}.{module}")
    return [one for group in GROUPS for one in CHECKS.values() if one.group == group.name]


def expected_seconds(checks: Sequence[Check], context: Context | None = None) -> float:
    """That these checks take on one GPU, with what they have in common, of which each is made once.

    context: of a run; what has been made in it takes no time.
    """
    shared = {name for check in checks for name in check.uses if context is None or not context.is_made(name)}
    return sum(check.seconds for check in checks) + sum(SHARED[name].seconds for name in shared)


def select(patterns: Sequence[str]) -> list[Check]:
    """The checks that some pattern names: a group, a check's name, or one with * in it. No pattern: all.

    Raises:
        CheckError: a pattern names none.
    """
    checks = all_checks()
    if not patterns:
        return checks
    for pattern in patterns:
        if not any(matches(one, pattern) for one in checks):
            names = [*(one.name for one in checks), *(group.name for group in GROUPS)]
            raise CheckError(f"no check is called {pattern!r}{nearest(pattern, names)}; --list shows all")
    return [one for one in checks if any(matches(one, pattern) for pattern in patterns)]


def matches(one: Check, pattern: str) -> bool:
    return one.group == pattern or fnmatch.fnmatchcase(one.name, pattern)
