"""The registry of checks: their groups, the objects that they share, and how they are selected by name."""

import fnmatch
import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from ppdet.acceptance.context import Context
from ppdet.acceptance.device_facts import Facts, Need
from ppdet.acceptance.outcomes import Outcome
from ppdet.utils.errors import UserError, nearest


class CheckError(UserError, ValueError):
    """The kit cannot run as requested: no such check, no such device, or no writable output folder."""


@dataclass(frozen=True)
class Group:
    """Checks that run in the same process, one after another.

    Args:
        name: the part of the checks' names before the slash.
        title: heading in reports.
        environment: environment variables of the process.
    """

    name: str
    title: str
    environment: Mapping[str, str] = field(default_factory=dict)


# The groups in the order in which they run. Cheap and fundamental groups come first, because their failures explain
# later ones. Groups that compare with a tolerance of 1e-4 turn TF32 off in NVIDIA's libraries.
NO_TF32 = {"NVIDIA_TF32_OVERRIDE": "0"}
GROUPS = (
    Group("environment", "Environment"),
    Group("nms", "Non-maximum suppression", NO_TF32),
    Group("operators", "Operators compared with the CPU", NO_TF32),
    Group("training", "Training compared with the CPU"),
    Group("guard", "Skipped updates"),
    Group("speed", "Speed of training"),
    Group("memory", "Memory and copies"),
    Group("detect", "Evaluation, inference and export"),
    Group("engines", "Engines that run exports"),
    Group("cards", "Several cards"),
)


class Shared(NamedTuple):
    """An object that several checks use and that the first of them makes.

    title: the object in words. seconds: how long it takes to make on one GPU, about.
    """

    title: str
    seconds: float


# By the names that `Context.shared_folder` and `shared_value` use. Losses of the CPU are those of 50 training steps
# with Paddle's own operators.
SHARED = {
    "cpu_momentum": Shared("losses of the CPU with Momentum", 15),
    "cpu_adamw": Shared("losses of the CPU with AdamW", 15),
    "trained": Shared("a detector, trained for 800 steps on the device", 25),
    "cpu_dense_teacher": Shared("losses of the CPU with DenseTeacher", 35),
    "reference_ap": Shared("AP of the detector on the CPU", 8),
    "exported": Shared("export of the detector in all formats", 30),
}
SHARED_LIMIT = 5  # the time limit for making a shared object is this many times its seconds


@dataclass(frozen=True)
class Check:
    """A check of the device. The figures in seconds leave out the time to make the shared objects in `uses`.

    Args:
        name: group/name, as --only takes it.
        title: what is compared with what, in one line.
        advice: what a failure means and what to do about it, in a few sentences, for the report and docs/GPU.md.
        run: the function that does the check.
        needs: the check is skipped on devices that do not meet all of these.
        uses: names in SHARED of the objects that the check uses.
        seconds: expected duration on one GPU, about.
        time_limit: seconds after which the check is stopped and has failed; 0 derives it from `seconds`.
    """

    name: str
    title: str
    advice: str
    run: Callable[[Context], Outcome]
    needs: tuple[Need, ...] = ()
    uses: tuple[str, ...] = ()
    seconds: float = 5.0
    time_limit: float = 0.0

    @property
    def group(self) -> str:
        return self.name.partition("/")[0]

    @property
    def limit(self) -> float:
        """Seconds after which the check is stopped. The first check of a process also waits for kernels to load."""
        return self.time_limit or 80 + 4 * self.seconds

    def missing(self, facts: Facts) -> str:
        """Return why the check cannot run on this device, or ""."""
        return next((reason for need in self.needs if (reason := need.missing(facts))), "")

    def limit_in(self, context: Context) -> float:
        """Return the time limit in seconds in this run, with the time to make shared objects that are not made yet."""
        return self.limit + sum(SHARED_LIMIT * SHARED[name].seconds for name in self.uses if not context.is_made(name))


CHECKS: dict[str, Check] = {}


def check(
    name: str,
    *,
    title: str = "",
    advice: str = "",
    needs: Sequence[Need] = (),
    uses: Sequence[str] = (),
    seconds: float = 5.0,
    limit: float = 0.0,
) -> Callable[[Callable[[Context], Outcome]], Callable[[Context], Outcome]]:
    """Return a decorator that registers a function as a check. The arguments are those of `Check`.

    Without `title`, it is the first paragraph of the function's docstring; without `advice`, it is the rest.

    Raises:
        ValueError: the group does not exist, another check has the name, or SHARED lacks a name in `uses`.
    """

    def register(run: Callable[[Context], Outcome]) -> Callable[[Context], Outcome]:
        if name.partition("/")[0] not in {group.name for group in GROUPS}:
            raise ValueError(f"check {name!r}: its group is not in GROUPS of ppdet/acceptance/check_registry.py")
        if name in CHECKS and CHECKS[name].run.__module__ != run.__module__:
            raise ValueError(f"check {name!r}: another check already has this name")
        if unknown := sorted(set(uses) - set(SHARED)):
            raise ValueError(f"check {name!r}: uses {unknown}, not in SHARED of ppdet/acceptance/check_registry.py")
        first, _, rest = (getattr(run, "__doc__", None) or "").partition("\n\n")
        about, meaning = (" ".join(text.split()) for text in (title or first, advice or rest))
        CHECKS[name] = Check(name, about, meaning, run, tuple(needs), tuple(uses), seconds, limit)
        return run

    return register


def all_checks() -> list[Check]:
    """Import all modules of `ppdet.acceptance.checks`, and return all registered checks in the order of GROUPS."""
    package = importlib.import_module("ppdet.acceptance.checks")
    for module in sorted(module.name for module in pkgutil.iter_modules(package.__path__)):
        importlib.import_module(f"{package.__name__}.{module}")
    return [one for group in GROUPS for one in CHECKS.values() if one.group == group.name]


def expected_seconds(checks: Sequence[Check], context: Context | None = None) -> float:
    """Return how long the checks take on one GPU, about. Each shared object counts once.

    Args:
        context: of a run in progress; shared objects that it has already made do not count.
    """
    shared = {name for check in checks for name in check.uses if context is None or not context.is_made(name)}
    return sum(check.seconds for check in checks) + sum(SHARED[name].seconds for name in shared)


def select(patterns: Sequence[str]) -> list[Check]:
    """Return the checks that match any pattern; all checks if there are no patterns.

    Args:
        patterns: names of groups, or names of checks in which * stands for any text, such as "nms" or "training/o1_*".

    Raises:
        CheckError: a pattern matches no check.
    """
    checks = all_checks()
    for pattern in patterns:
        if not any(matches(one, pattern) for one in checks):
            names = [*(one.name for one in checks), *(group.name for group in GROUPS)]
            raise CheckError(f"no check is called {pattern!r}{nearest(pattern, names)}; --list shows all checks")
    return [one for one in checks if not patterns or any(matches(one, pattern) for pattern in patterns)]


def matches(one: Check, pattern: str) -> bool:
    return one.group == pattern or fnmatch.fnmatchcase(one.name, pattern)
