"""A process of the kit: it runs some checks one after another, and writes down what comes out of each.

    python -m ppdet.acceptance.child SPEC

SPEC is a JSON file that `runner` writes. Every line of its `events` file is one of {"start": NAME, "log": BYTES},
{"progress": TEXT} and {"result": …}; {"facts": …} or {"error": TEXT} where it was asked for the device's facts.
"""

import faulthandler
import json
import os
import signal
import sys
import threading
import time
import traceback
from pathlib import Path

from ppdet.acceptance.check_registry import CHECKS, Check, all_checks
from ppdet.acceptance.context import Context
from ppdet.acceptance.outcomes import FAIL, PASS, SKIPPED, Failed, Result, Skipped, one_line
from ppdet.core.extensions import import_extensions
from ppdet.utils.errors import UserError, paddle_summary

POLL = 0.5  # seconds between two looks whether the parent is still there
BROKEN = 3  # exit code: a check ended in an error, after which this process and its device are not to be trusted


def run_check(check: Check, context: Context) -> tuple[Result, bool]:
    """Run a check in this process; give its result, and whether it ended in an exception that it did not mean."""
    start = time.perf_counter()
    numbers, trace, broken = {}, None, False
    try:
        outcome = check.run(context)
        status, detail, numbers = PASS, outcome.detail, outcome.numbers
    except Skipped as reason:
        status, detail = SKIPPED, str(reason)
    except Failed as failure:
        status, detail, numbers = FAIL, failure.detail, failure.numbers
    except UserError as error:
        status, detail, trace, broken = FAIL, str(error), traceback.format_exc(), True
    except Exception as error:
        detail = f"{type(error).__name__}: {gist(str(error))}"
        status, trace, broken = FAIL, traceback.format_exc(), True
    seconds = time.perf_counter() - start
    return Result(check.name, status, one_line(detail), numbers, seconds, trace), broken


def gist(message: str) -> str:
    """The line of an exception's message that tells most."""
    summary = paddle_summary(message)
    return next((line for line in message.splitlines() if line.strip("- ")), "") if summary is None else summary


def end_with(parent: int) -> None:
    """End this process and its group, whatever they do, once the process that started it is gone.

    A closed terminal or a SIGKILL ends the kit's own process alone; this one, in a session of its own, would go on
    computing on the device.
    """

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(POLL)
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()


def main(path: str) -> int:
    spec = json.loads(Path(path).read_text(encoding="utf-8"))
    end_with(spec["parent"])
    events = Path(spec["events"])

    def tell(event: dict) -> None:
        with open(events, "a", encoding="utf-8") as stream:
            stream.write(json.dumps(event) + "\n")

    from ppdet.utils.process.paddle_setup import load_paddle

    load_paddle(announce=False)
    faulthandler.enable()
    all_checks()
    try:
        import_extensions(spec["imports"])
        if "device" in spec:
            from ppdet.acceptance.probe import find_facts

            tell({"facts": find_facts(spec["device"]).__dict__})
            return 0
    except UserError as error:
        tell({"error": str(error)})
        return 2
    import paddle

    context = Context.from_json(spec["context"], events)
    for name in spec["checks"]:
        paddle.set_device(context.device)
        limit = CHECKS[name].limit_in(context) * spec["limit_factor"]
        tell({"start": name, "log": os.fstat(1).st_size, "limit": limit})
        faulthandler.dump_traceback_later(limit)  # into the log, before the limit ends the process
        result, broken = run_check(CHECKS[name], context)
        faulthandler.cancel_dump_traceback_later()
        tell({"result": result.to_json()})
        if broken:
            return BROKEN
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
