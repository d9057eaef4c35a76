"""Without the modules that Windows and macOS lack, training, evaluation, export and detection work the same."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from tiny import TINY_YAML, write_tiny_coco

from ppdet.engine.checkpoints.weights import read_arrays

ROOT = Path(__file__).resolve().parents[2]

# Every Python that finds this module runs it at its start, and so does every worker process.
SITE = """
import builtins, io, multiprocessing, os, signal, sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name in ("fcntl", "resource"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
for name in ("fcntl", "resource"):
    sys.modules.pop(name, None)
multiprocessing.get_all_start_methods = lambda: ["spawn"]
ABSENT = ("fork", "forkpty", "register_at_fork", "sched_getaffinity", "getuid", "geteuid", "mkfifo", "O_DIRECTORY",
          "O_NOFOLLOW", "O_NONBLOCK", "pread", "pwrite", "sysconf", "getloadavg", "killpg", "setsid")
for name in ABSENT:
    if hasattr(os, name):
        delattr(os, name)
for name in ("pthread_sigmask", "SIGKILL", "SIGHUP", "SIGBUS", "setitimer", "SIGALRM"):
    delattr(signal, name)

def no_link(*arguments, **options):
    raise OSError(95, "Operation not supported")

os.link = os.symlink = no_link
opened = io.open

def no_proc(file, *arguments, **options):
    if isinstance(file, (str, os.PathLike)) and os.fspath(file).startswith("/proc"):
        raise FileNotFoundError(2, "No such file or directory", file)
    return opened(file, *arguments, **options)

builtins.open = io.open = no_proc
"""

# Without `if __name__ == "__main__"`, as people write scripts.
SCRIPT = """
from ppdet.cli import detect, evaluate, export, train
import sys
config, data, out = sys.argv[1:]
train.main(["-c", config, "-o", "worker_num=1"])
weights = ["-o", f"weights={out}/run/tiny/model_final", "worker_num=0"]
evaluate.main(["-c", config, *weights, f"output_eval={out}"])
export.main(["-c", config, *weights, "--output_dir", out])
detect.main(["--model_dir", f"{out}/tiny", "--image_file", f"{data}/images/001.png", "--output_dir", f"{out}/detected"])
"""
TRAINING = "import sys; from ppdet.cli import train; train.main(['-c', sys.argv[1], '-o', sys.argv[2], 'worker_num=0'])"


def test_the_commands_on_a_system_without_fork(tmp_path):
    data = write_tiny_coco(tmp_path / "data", images=4, size=(64, 64))
    config = tmp_path / "tiny.yml"
    config.write_text(TINY_YAML.format(output=tmp_path / "run", data=data).replace("epoch: 2", "epoch: 1"))
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(SITE)
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path / 'site'}{os.pathsep}{ROOT}"}
    command = [sys.executable, "-c", SCRIPT, str(config), str(data), str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr
    assert "Traceback" not in result.stderr and "cannot be locked (this Python has no fcntl)" in result.stderr
    assert isinstance(json.loads((tmp_path / "bbox.json").read_text()), list)
    assert (tmp_path / "detected").is_dir()

    # In a process of its own too: in this one, other tests may have changed the number of threads, and thus rounding.
    command = [sys.executable, "-c", TRAINING, str(config), f"save_dir={tmp_path / 'here'}"]
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "PYTHONPATH": str(ROOT)})
    ours, theirs = (read_arrays(tmp_path / folder / "tiny" / "model_final.pdparams") for folder in ("here", "run"))
    assert ours.keys() == theirs.keys() and len(ours) > 50
    different = {
        name: float(np.abs(ours[name] - theirs[name]).max()) for name in ours if (ours[name] != theirs[name]).any()
    }
    assert not different, result.stderr
