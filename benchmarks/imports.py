"""Start-up time: importing the package, and --help of every command, each in a new Python process.

The limit is a Python process that does nothing. `import paddle` is measured for comparison, because every command that
computes needs it.
"""

import subprocess
import sys

from common import ROOT, make_parser, medians, report

EXAMPLES = """examples:
  python benchmarks/imports.py
  python benchmarks/imports.py --repeat 20 --json imports.json
"""
LIMIT = "python -c pass"
TRAINING = (
    "from ppdet.utils.process.paddle_setup import load_paddle; load_paddle(announce=False); import ppdet.engine.trainer"
)


def main() -> None:
    arguments = make_parser(__doc__, EXAMPLES).parse_args()
    commands = {
        LIMIT: ["-c", "pass"],
        "import numpy": ["-c", "import numpy"],
        "import paddle": ["-c", "import paddle"],
        "import ppdet": ["-c", "import ppdet"],
        "import what training needs": ["-c", TRAINING],
    }
    for script in (*sorted((ROOT / "tools").glob("*.py")), ROOT / "deploy" / "python" / "infer.py"):
        commands[f"{script.relative_to(ROOT)} --help"] = [str(script), "--help"]

    def run(command: list[str]) -> None:
        subprocess.run([sys.executable, *command], cwd=ROOT, check=True, capture_output=True)  # nosec B603  # constants

    seconds = medians({name: lambda c=command: run(c) for name, command in commands.items()}, arguments.repeat)
    table = [[name, value, value - seconds[LIMIT], value / seconds[LIMIT]] for name, value in seconds.items()]
    report("Start-up", ["command", "seconds", "above the limit", "ratio to limit"], table, arguments.json)


if __name__ == "__main__":
    main()
