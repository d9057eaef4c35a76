"""A process that runs checks one after another and reports their results; `runner` starts it.

Its argument SPEC is a JSON file that `runner` writes. The process appends lines to the file that SPEC calls "events":
{"start": NAME, "log": SIZE_OF_THE_LOG, "limit": SECONDS} and {"result": …} for each check. If SPEC
asks for facts about the device instead, the only line is {"facts": …} or {"error": TEXT}.
"""

import faulthandler
import json
import os
import signal
import sys
import threading
import time
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ppdet.acceptance.check_registry import CHECKS, Check, all_checks
from ppdet.acceptance.context import Context
from ppdet.acceptance.outcomes import FAIL, PASS, SKIPPED, Failed, Result, Skipped, one_line
from ppdet.core.extensions import import_extensions
from ppdet.utils.disk.files import read_text
from ppdet.utils.errors import UserError, paddle_summary

POLL = 0.5  # seconds between two looks whether the parent process still exists
UNEXPECTED = 3  # exit code after an unexpected exception; the process and its use of the device may be broken


def run_check(check: Check, context: Context) -> tuple[Result, bool]:
    """Run a check in this process. Returns its result, and whether it ended with an unexpected exception."""
    start = time.perf_counter()
    numbers: dict[str, Any] = {}
    trace = None
    try:
        outcome = check.run(context)
        status, detail, numbers = PASS, outcome.detail, outcome.numbers
    except Skipped as reason:
        status, detail = SKIPPED, str(reason)
    except Failed as failure:
        status, detail, numbers = FAIL, failure.detail, failure.numbers
    except UserError as error:
        status, detail, trace = FAIL, str(error), traceback.format_exc()
    except Exception as error:
        detail = f"{type(error).__name__}: {reason_in(str(error))}"
        status, trace = FAIL, traceback.format_exc()
    seconds = time.perf_counter() - start
    return Result(check.name, status, one_line(detail), numbers, seconds, trace), trace is not None


def reason_in(message: str) -> str:
    """Return the most informative line of an exception's message."""
    summary = paddle_summary(message)
    return next((line for line in message.splitlines() if line.strip("- ")), "") if summary is None else summary


def end_with(parent: int) -> None:
    """Kill this process and its process group as soon as the process `parent` no longer exists.

    A closed terminal or a SIGKILL ends only the kit's main process. This process has a session of its own, and would
    otherwise continue to use the device. Windows has no process groups, and there this function does nothing.
    """
    if not hasattr(os, "killpg"):
        return

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(POLL)
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


def main() -> int:
    spec = json.loads(read_text(sys.argv[1]))
    end_with(spec["parent"])
    events = Path(spec["events"])

    def report(event: dict[str, Any]) -> None:
        with open(events, "a", encoding="utf-8") as stream:
            stream.write(json.dumps(event) + "\n")

    from ppdet.utils.process.paddle_setup import load_paddle

    load_paddle(announce=False)
    faulthandler.enable()
    all_checks()
    try:
        import_extensions(spec["imports"])
        if "device" in spec:
            from ppdet.acceptance.device_probe import find_facts

            report({"facts": asdict(find_facts(spec["device"]))})
            return 0
    except UserError as error:
        report({"error": str(error)})
        return 2
    import paddle

    context = Context.from_json(spec["context"])
    for name in spec["checks"]:
        paddle.set_device(context.device)
        limit = CHECKS[name].limit_in(context) * spec["limit_factor"]
        report({"start": name, "log": os.fstat(1).st_size, "limit": limit})
        # The stack of a check that hangs has to be in the log before `runner` kills this process.
        faulthandler.dump_traceback_later(limit)
        result, unexpected = run_check(CHECKS[name], context)
        faulthandler.cancel_dump_traceback_later()
        report({"result": result.to_json()})
        if unexpected:
            return UNEXPECTED
    return 0
