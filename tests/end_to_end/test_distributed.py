"""Several CPU processes, on one node and on two, train and evaluate as one; and end together."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from commands import call
from forked_ranks import run_jobs
from patience import PATIENCE, wait_until
from tiny import TINY_YAML, write_tiny_coco, write_tiny_semi

from ppdet.engine.checkpoints.manifest import read_verified
from ppdet.engine.checkpoints.weights import read_arrays

ROOT = Path(__file__).resolve().parents[2]
NUMBERS = r"maxDets= *\d+ \] = (-?[\d.]+)"

# Trains what its arguments name and writes down every step's loss over all ranks.
RECORD_LOSSES = """
import json, sys
from ppdet.utils.process.paddle_setup import load_paddle
load_paddle()
import paddle
paddle.set_device("cpu")
from ppdet.core.workspace import load_config
from ppdet.engine.distributed import collectives
from ppdet.engine.hooks import Hook
from ppdet.engine.trainer import Trainer

losses = []
class Record(Hook):
    def after_step(self, trainer):
        ranks = collectives.gather(float(trainer.losses["loss"]))
        losses.append(sum(ranks) / len(ranks))

cfg = load_config(sys.argv[1], sys.argv[3:])
with collectives.joined():
    Trainer(cfg, hooks=[Record()]).train()
if collectives.rank() == 0:
    json.dump(losses, open(sys.argv[2], "w"))
"""

# Writes the twelve numbers of an evaluation in full.
EVALUATE = """
import json, sys
from ppdet.utils.process.paddle_setup import load_paddle
load_paddle()
import paddle
paddle.set_device("cpu")
from ppdet.core.workspace import load_config
from ppdet.engine.distributed import collectives
from ppdet.engine.build import build_model
from ppdet.engine.evaluator import Evaluator

cfg = load_config(sys.argv[1], sys.argv[3:])
paddle.seed(0)
with collectives.joined():
    numbers = Evaluator(cfg)(build_model(cfg))
if collectives.rank() == 0:
    json.dump(numbers, open(sys.argv[2], "w"))
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("distributed")
    write_tiny_coco(folder / "data", images=22)
    text = TINY_YAML.format(output=folder / "output", data=folder / "data")
    # Batch norm would see other batches; group norm makes two halves equal to the whole.
    (folder / "tiny.yml").write_text(text.replace("ResNet: {", "ResNet: {norm_type: gn, "))
    return folder / "tiny.yml"


def start(log_dir, *arguments, launcher=("--nproc_per_node", "2")):
    """Start a launched job in a process group of its own, its output going to <log_dir>/console."""
    log_dir.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "paddle.distributed.launch", "--log_dir", str(log_dir), *launcher]
    with open(log_dir / "console", "w") as console:
        command += map(str, arguments)
        # Two nodes on one machine would each take all of its cores.
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        return subprocess.Popen(
            command, cwd=ROOT, stdout=console, stderr=console, start_new_session=True, env=environment
        )


@contextlib.contextmanager
def running(*processes):
    """Kill what remains of the jobs when the test is over."""
    try:
        yield
    finally:
        for process in processes:
            if process.poll() is None:
                process.terminate()
                process.wait(PATIENCE)


def run_alone(code, *arguments, monkeypatch):
    """Run one of the programs above as the only process of its job: in this one."""
    monkeypatch.setattr(sys, "argv", ["program", *map(str, arguments)])
    exec(compile(code, "program", "exec"), {"__name__": "__main__"})


def run_on_ranks(folder, code, *arguments, ranks=2):
    """The same on several ranks, forked from a process that has loaded Paddle."""
    code = f"import sys\nsys.argv[1:] = {[str(argument) for argument in arguments]!r}\n{code}"
    (ended,) = run_jobs(folder, [code], ranks=ranks)
    assert [rank.code for rank in ended] == [0] * ranks, ended[0].output[-3000:]


def run_commands(folder, *commands):
    """Run commands by their files, each on two ranks as above; what the ranks of each print."""
    code = "import runpy, sys\nsys.argv = {!r}\nrunpy.run_path(sys.argv[0], run_name='__main__')"
    jobs = run_jobs(folder, [code.format([str(part) for part in command]) for command in commands])
    assert [[rank.code for rank in job] for job in jobs] == [[0, 0]] * len(commands), jobs[0][0].output[-3000:]
    return [[rank.output for rank in job] for job in jobs]


def start_two_nodes(log_dir, *arguments):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    options = ("--nnodes", "2", "--master", f"127.0.0.1:{port}", "--nproc_per_node", "1")
    return [start(log_dir / f"node{rank}", *arguments, launcher=(*options, "--rank", str(rank))) for rank in range(2)]


def wait_for(path, pattern):
    return wait_until(lambda: path.is_file() and re.search(pattern, path.read_text()), f"{path} has {pattern}")


def worker(log_dir, local_rank):
    """The process of a rank, which the launcher's console does not name; not one of its image workers."""
    environment = f"PADDLE_LOG_DIR={log_dir.resolve()}\0".encode()
    rank = f"PADDLE_LOCAL_RANK={local_rank}\0".encode()
    parents = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            variables = (folder / "environ").read_bytes()
            if environment in variables and rank in variables:
                parents[int(folder.name)] = int(re.search(r"PPid:\t(\d+)", (folder / "status").read_text())[1])
    # Readers have their variables; their numbers are smaller where the system has begin_run to count anew.
    found = [process for process, parent in parents.items() if parent not in parents]
    assert found, f"no process logs to {log_dir}"
    return found[0]


def test_ten_steps_of_one_process_two_processes_and_two_batches_added_up(config, tmp_path, monkeypatch):
    losses = {}
    options = ["LearningRate.base_lr=0.002", "log_iter=100"]
    for name, batch_size, more, processes in (
        ("whole", 4, [], 1),
        ("two processes", 2, [], 2),
        ("added up", 2, ["accumulate_steps=2"], 1),
    ):
        path = tmp_path / f"{name}.json"
        arguments = [config, path, f"save_dir={tmp_path}/{name}", f"TrainReader.batch_size={batch_size}"]
        arguments += [*options, *more]
        if processes == 1:
            run_alone(RECORD_LOSSES, *arguments, monkeypatch=monkeypatch)
        else:
            run_on_ranks(tmp_path, RECORD_LOSSES, *arguments)
        losses[name] = json.loads(path.read_text())
    assert len(losses["whole"]) == 10
    assert max(losses["whole"]) > 1.05 * min(losses["whole"])
    np.testing.assert_allclose(losses["two processes"], losses["whole"], rtol=1e-4)
    np.testing.assert_allclose(losses["added up"], losses["whole"], rtol=1e-4)


def test_two_processes_learn_from_unlabeled_images_as_one_does(tmp_path, monkeypatch):
    """With every location selected, as all of them are where ratio is 1, halves select what the whole does."""
    config = write_tiny_semi(tmp_path)
    config.write_text(config.read_text().replace("ResNet: {", "ResNet: {norm_type: gn, "))
    losses = {}
    for processes in (1, 2):
        path = tmp_path / f"{processes}.json"
        arguments = [config, path, f"save_dir={tmp_path}/{processes}", "DenseTeacher.train_cfg.ratio=1.0"]
        arguments += ["LearningRate.base_lr=0.002", "log_iter=100"]
        arguments += [f"SemiTrainReader.sup_batch_size={2 // processes}"]
        arguments += [f"SemiTrainReader.unsup_batch_size={4 // processes}"]
        if processes == 1:
            run_alone(RECORD_LOSSES, *arguments, monkeypatch=monkeypatch)
        else:
            run_on_ranks(tmp_path, RECORD_LOSSES, *arguments)
        losses[processes] = json.loads(path.read_text())
    assert len(losses[1]) == 8 and losses[1][1] > losses[1][0] + 0.5
    np.testing.assert_allclose(losses[2], losses[1], rtol=1e-4)


def test_dry_run_of_two_processes(config, tmp_path):
    output = tmp_path / "output"
    options = ["-o", f"save_dir={output}", "TrainReader.batch_size=1", "auto_lr.base_batch_size=4"]
    (logs,) = run_commands(tmp_path, ["tools/train.py", "-c", config, "--eval", "--dry_run", *options])
    log = "".join(logs)
    assert "learning rate: 0.005 for 2 images per step, from 0.01 for 4" in log
    assert "epoch: 11 steps of 2 images on 2 devices" in log
    assert log.count("dry run: nothing was written") == 1
    assert not output.exists()


def test_evaluation_on_the_fly_is_that_of_the_saved_weights(config, tmp_path):
    """Batch norm sees other images on each rank; what is evaluated and what is saved is one model all the same."""
    bn = tmp_path / "tiny.yml"
    bn.write_text(config.read_text().replace("norm_type: gn, ", ""))
    options = ["epoch=2", "snapshot_epoch=2", "use_ema=true", "LearningRate.base_lr=0.02", "TrainReader.batch_size=1"]
    (logs,) = run_commands(tmp_path, ["tools/train.py", "-c", bn, "--eval", "-o", f"save_dir={tmp_path}", *options])
    log = "".join(logs)
    assert len(re.findall(r"\] \[INFO\] Epoch: \[1/2\] \[ 1/11\]", log)) == 1, "one line a step, not one a rank"
    assert "2 images per step on 2 devices" in log
    evaluated = call("tools/eval.py", "-c", bn, "-o", f"weights={tmp_path}/tiny/model_final")
    assert len(re.findall(NUMBERS, log)) == 12
    assert re.findall(NUMBERS, log) == re.findall(NUMBERS, evaluated)


def test_three_processes_evaluate_87_images_as_one_does(shared, tmp_path, monkeypatch):
    bccd = shared / "data" / "bccd"
    annotations = bccd / "annotations" / "val.json"
    if not annotations.is_file():
        pytest.skip(f"{annotations} is not here")
    assert len(json.loads(annotations.read_text())["images"]) == 87
    write_tiny_coco(tmp_path / "data", images=1)
    text = TINY_YAML.format(output=tmp_path / "output", data=tmp_path / "data")
    text = text.replace("num_classes: 2", "num_classes: 3").replace(
        "EvalDataset: *data",
        f"EvalDataset: !COCODataSet {{dataset_dir: {bccd}, image_dir: images, anno_path: annotations/val.json}}",
    )
    text = text.replace(
        "[Decode: {}, NormalizeImage: {}, Permute: {}]",
        "[Decode: {}, Resize: {target_size: [120, 160], keep_ratio: true}, NormalizeImage: {}, Permute: {}]",
    )
    config = tmp_path / "tiny.yml"
    config.write_text(text)
    one, three = tmp_path / "one.json", tmp_path / "three.json"
    options = ["FCOSHead.nms.score_threshold=0.0"]
    run_alone(EVALUATE, config, one, *options, monkeypatch=monkeypatch)
    run_on_ranks(tmp_path, EVALUATE, config, three, *options, ranks=3)
    numbers = json.loads(one.read_text())
    assert len(numbers) == 12 and numbers["AP"] > 0
    assert json.loads(three.read_text()) == numbers


def test_two_nodes_stopped_and_resumed_train_as_one(config, tmp_path):
    """A signal to one node's launcher stops both, with a snapshot; only rank 0 writes."""
    arguments = ["tools/train.py", "-c", config, "--eval", "-r", "auto", "-o", "epoch=2"]
    ((unbroken, _),) = run_commands(tmp_path, [*arguments, f"save_dir={tmp_path}/one"])
    arguments += [f"save_dir={tmp_path}/two"]
    nodes = start_two_nodes(tmp_path / "stopped", *arguments)
    with running(*nodes):
        wait_for(tmp_path / "stopped" / "node0" / "workerlog.0", r"Epoch: \[1/2\] \[1/5\]")
        nodes[1].terminate()
        codes = [node.wait(PATIENCE) for node in nodes]
    assert codes == [143, 15], "rank 0's own code, and the number of the signal that the other launcher had"
    snapshot = next((tmp_path / "two" / "tiny").glob("snapshot_*.json")).with_suffix("")
    assert 0 < read_verified(snapshot).state.iteration < 10
    nodes = start_two_nodes(tmp_path / "resumed", *arguments)
    with running(*nodes):
        assert [node.wait(PATIENCE) for node in nodes] == [0, 0]
    console = (tmp_path / "resumed" / "node0" / "console").read_text()
    assert f"resumed from {snapshot}" in console
    assert "Epoch:" not in (tmp_path / "resumed" / "node1" / "console").read_text()
    one, two = (read_arrays(tmp_path / name / "tiny" / "model_final.pdparams") for name in ("one", "two"))
    for name, value in one.items():
        np.testing.assert_array_equal(two[name], value, err_msg=name)
    numbers = re.findall(NUMBERS, console)
    assert numbers and numbers == re.findall(NUMBERS, unbroken)


@pytest.mark.parametrize("who", ["a worker", "the group"])
def test_a_signal_to_one_process_stops_all_with_a_snapshot(config, tmp_path, who):
    arguments = ["tools/train.py", "-c", config, "-o", "epoch=50", "worker_num=1", f"save_dir={tmp_path}"]
    job = start(tmp_path / "log", *arguments)
    with running(job):
        wait_for(tmp_path / "log" / "workerlog.0", r"Epoch: \[1/50\] \[2/5\]")
        if who == "a worker":
            os.kill(worker(tmp_path / "log", 1), signal.SIGTERM)
            assert job.wait(PATIENCE) == 143
        else:
            os.killpg(job.pid, signal.SIGINT)  # what Ctrl-C does
            assert job.wait(PATIENCE) == signal.SIGINT
    snapshot = next((tmp_path / "tiny").glob("snapshot_*.json")).with_suffix("")
    assert read_verified(snapshot).state.iteration >= 2


@pytest.mark.parametrize("nodes", [1, 2])
def test_a_killed_rank_ends_the_job_and_its_cause_is_told(config, tmp_path, nodes):
    """A launcher ends with the code of its machine's first rank that has failed."""
    arguments = ["tools/train.py", "-c", config, "-o", "epoch=50", "worker_num=1", f"save_dir={tmp_path}"]
    if nodes == 1:
        jobs, victims_log, local_rank = [start(tmp_path / "log", *arguments)], tmp_path / "log", 1
        log = tmp_path / "log"
    else:
        jobs, victims_log, local_rank = start_two_nodes(tmp_path, *arguments), tmp_path / "node1", 0
        log = tmp_path / "node0"
    with running(*jobs):
        wait_for(log / "workerlog.0", r"Epoch: \[1/50\] \[2/5\]")
        victim = worker(victims_log, local_rank)
        os.kill(victim, signal.SIGKILL)
        assert [job.wait() for job in jobs] == [2, 256 - signal.SIGKILL][:nodes]
    cause = f"error: rank 1 (process {victim} on {socket.gethostname()}) is gone: it was killed"
    assert cause in (log / "workerlog.0").read_text()
    # The launcher shows the end of the first process that it finds dead.
    killed = r"rank \d status failed .* code -9"
    assert cause in (log / "console").read_text() or re.search(killed, (log / "console").read_text())
    assert nodes == 1 or cause in (log / "console").read_text()
    assert nodes == 1 or re.search(killed, (victims_log / "console").read_text())


def test_the_error_of_one_rank_ends_the_job_and_is_told(config, tmp_path):
    """Only rank 1 cannot read its images."""
    script = tmp_path / "fail.py"
    script.write_text(
        "import os, sys\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        "if os.environ['PADDLE_TRAINER_ID'] == '1':\n"
        "    sys.argv += ['TrainDataset.image_dir=gone']\n"
        "exec(open('tools/train.py').read().replace('__file__', repr('tools/train.py')))\n"
    )
    job = start(tmp_path / "log", script, "-c", config, "-o", f"save_dir={tmp_path}")
    with running(job):
        assert job.wait(PATIENCE) not in (0, None)
    assert re.search(r"error: .*gone", (tmp_path / "log" / "console").read_text())
