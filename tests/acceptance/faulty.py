"""Checks that pass, fail, raise, crash or hang. Tests give this file to the kit with --import."""

import os
import time

from ppdet.acceptance.check_registry import check
from ppdet.acceptance.context import Context
from ppdet.acceptance.device_facts import Need
from ppdet.acceptance.outcomes import Failed, Outcome, Skipped


def faulty(name: str, **more: object):
    return check(f"nms/faulty_{name}", title=f"title of {name}", advice=f"advice about {name}", **more)


@faulty("fine")
def fine(context: Context) -> Outcome:
    return Outcome("as it should be", {"pid": os.getpid(), "nan": float("nan")})


@faulty("fails")
def fails(context: Context) -> Outcome:
    print("what fails printed")
    raise Failed("5 <rows> differ", rows=5, pid=os.getpid())


@faulty("unmet", needs=[Need("a unicorn", lambda facts: f"no unicorn on this {facts.device}")])
def unmet(context: Context) -> Outcome:
    return Outcome("it was run")


@faulty("gives_up")
def gives_up(context: Context) -> Outcome:
    raise Skipped("there is nothing to compare with")


@faulty("raises")
def raises(context: Context) -> Outcome:
    import paddle

    return Outcome(str(paddle.ones([2]) + paddle.ones([3])))


@faulty("aborts")
def aborts(context: Context) -> Outcome:
    print("last words")
    os.abort()


@faulty("hangs", limit=0.01)
def hangs(context: Context) -> Outcome:
    time.sleep(3600)
    return Outcome("awake")
