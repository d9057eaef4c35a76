"""`python -m ppdet` is the console command `ppdet`.

Called as a file, as `paddle.distributed.launch` needs it, it does the same.
"""

import sys
from pathlib import Path

if not __package__:  # called as a file: the modules beside it are not top-level modules
    sys.path[0] = str(Path(__file__).resolve().parents[1])

from ppdet.cli.commands import main

if __name__ == "__main__":
    main()
