"""The same program as the command `ppdet check-device`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ppdet.cli.commands import run_command

if __name__ == "__main__":
    run_command("check-device")
