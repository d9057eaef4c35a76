"""The device that a configuration selects, for simulated builds of Paddle and machines."""

import os
import re

import pytest

from ppdet.core.workspace import load_config
from ppdet.engine import device_choice
from ppdet.engine.device_choice import choose, select_backend, set_device, why_on_cpu
from ppdet.engine.distributed import collectives
from ppdet.utils import device
from ppdet.utils.errors import ConfigError


def launch(monkeypatch, **given):
    """Set the variables of paddle.distributed.launch for one of two processes: gpu="1"."""
    monkeypatch.setenv("PADDLE_TRAINERS_NUM", "2")
    for kind, index in given.items():
        monkeypatch.setenv(f"FLAGS_selected_{kind}s", index)


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ({}, "cpu"),
        ({"gpu": 2}, "gpu:0"),
        ({"xpu": 1}, "xpu:0"),
        ({"npu": 8}, "npu:0"),
        ({"gpu": 0, "npu": 1}, "npu:0"),
        ({"gpu": 1, "iluvatar_gpu": 1}, "gpu:0"),
        ({"gpu": 0}, "cpu"),
    ],
)
def test_auto(machine, log, counts, expected):
    chosen = machine(**counts)
    assert choose() == expected and chosen == [expected]
    assert f"device: {expected}" in log.messages
    warnings = [record.message for record in log.records if record.levelname == "WARNING"]
    told = ["this Paddle is built for GPU, but none is visible: running on the CPU"]
    assert warnings == (told if counts == {"gpu": 0} else [])


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("cpu", "cpu"),
        ("CPU", "cpu"),
        ("gpu", "gpu:0"),
        ("GPU:1", "gpu:1"),
        ("cuda", "gpu:0"),
        ("cuda:1", "gpu:1"),
        ("dcu:1", "gpu:1"),
        (0, "gpu:0"),
        (1, "gpu:1"),
        ("1", "gpu:1"),
        ([1], "gpu:1"),
        ("npu", "npu:0"),
        ("npu:3", "npu:3"),
    ],
)
def test_what_is_asked_for(machine, value, expected):
    chosen = machine(gpu=2, npu=4)
    assert choose(value) == expected and chosen == [expected]


@pytest.mark.parametrize(
    ("counts", "value", "message"),
    [
        ({}, "gpu", r"this Paddle \(.*\) has no device of type gpu, it has cpu: install paddlepaddle-gpu"),
        ({"gpu": 1}, "xpu", r"it has cpu, gpu: install paddlepaddle-xpu \(docs/GPU.md\)"),
        ({"gpu": 1}, "npu", "install the plugin of PaddleCustomDevice for npu"),
        ({"gpu": 1}, "gpuu", "did you mean 'gpu'?"),
        ({"iluvatar_gpu": 1}, "iluvatar", "it has cpu, iluvatar_gpu; did you mean 'iluvatar_gpu'?"),
        ({"gpu": 1}, "tpu", "has no device of type tpu"),
        ({"gpu": 0}, "gpu", r"no GPU is visible: is there a driver \(nvidia-smi\).* device=cpu computes on the CPU"),
        ({"npu": 0}, "npu", "no npu is visible: is its driver there"),
        ({"gpu": 2}, "gpu:2", "there is no gpu:2 here, only gpu:0 to gpu:1"),
        ({"gpu": 1}, 4, "there is no gpu:4 here, only gpu:0"),
        ({"gpu": 2}, [0, 1], r"expected one device, got \[0, 1\]: .*--devices 0,1 tools/train.py"),
        ({"gpu": 2}, "gpu:0,1", r"expected one device, got 'gpu:0,1': .*--devices 0,1"),
        ({"gpu": 2}, "0, 1", r"--devices 0,1"),
        ({"gpu": 2}, "gpu:x", "expected auto, cpu, a type of device, or one of that type, such as gpu:0, got 'gpu:x'"),
        ({"gpu": 2}, "gpu:", "got 'gpu:'"),
        ({"gpu": 2}, "", "expected auto, cpu, a type of device"),
        ({"gpu": 2}, -1, "such as gpu:0, got -1"),
        ({}, 0, "0 names a GPU or another accelerator, but none was found; device=cpu"),
        ({}, "cpu:0", "expected auto, cpu"),
        ({"gpu": 4}, "gpu:²", "such as gpu:0, got 'gpu:²'"),
        ({"gpu": 4}, "gpu:٣", "such as gpu:0, got 'gpu:٣'"),
        ({"gpu": 4}, "٣", "such as gpu:0, got '٣'"),
        ({"gpu": 4}, "gpu:" + "9" * 5000, "such as gpu:0, got 'gpu:999"),
        ({"gpu": 1}, "auto:0", "such as gpu:0, got 'auto:0'"),
        ({}, "auto:0", "such as gpu:0, got 'auto:0'"),
    ],
)
def test_what_cannot_be_had(machine, counts, value, message):
    chosen = machine(**counts)
    with pytest.raises(ConfigError, match=message) as error:
        choose(value)
    assert chosen == [] and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("settings", "expected", "warning"),
    [
        ("", "gpu:0", None),
        ("use_gpu: true", "gpu:0", None),
        ("use_gpu: false", "cpu", None),
        ("use_npu: true", "npu:0", None),
        ("{use_gpu: false, use_npu: true}", "npu:0", None),
        ("{use_gpu: true, use_xpu: false, use_mlu: false, use_npu: false, use_gcu: false}", "gpu:0", None),
        ("device: cpu", "cpu", None),
        ("{device: auto, use_gpu: false}", "cpu", None),
        ("{device: gpu, use_gpu: false}", "gpu:0", "device: gpu is used; use_gpu: false is ignored"),
        ("{device: npu, use_gpu: false}", "npu:0", None),
        ("{device: npu, use_gpu: false, use_npu: true}", "npu:0", None),
        ("{device: cpu, use_npu: true}", "cpu", "device: cpu is used; use_npu: true is ignored"),
    ],
)
def test_settings_of_paddledetection(machine, tmp_path, log, settings, expected, warning):
    machine(gpu=1, npu=1)
    path = tmp_path / "x.yml"
    path.write_text(settings or "{}")
    assert set_device(load_config(str(path))) == expected
    assert [record.message for record in log.records if record.levelname == "WARNING"] == [warning] * bool(warning)


@pytest.mark.parametrize(
    ("settings", "options", "expected"),
    [
        ("device: gpu:1", ["use_gpu=false"], "cpu"),
        ("device: npu", ["use_gpu=false"], "cpu"),
        ("use_npu: true", ["use_gpu=false"], "cpu"),
        ("device: cpu", ["use_gpu=true"], "gpu:0"),
        ("use_gpu: false", ["use_gpu=true"], "gpu:0"),
        ("use_npu: true", ["use_gpu=true"], "gpu:0"),
        ("device: npu", ["use_gpu=true"], "gpu:0"),
        ("device: cpu", ["use_npu=true"], "npu:0"),
        ("use_xpu: true", ["use_npu=true"], "npu:0"),
        ("device: npu", ["use_npu=false"], "npu:0"),
        ("use_npu: true", ["use_npu=false"], "gpu:0"),
        ("{use_gpu: false, use_npu: true}", ["use_npu=false"], "cpu"),
        ("device: npu", ["use_gpu=false", "use_npu=true"], "npu:0"),
        # A true setting selects a type, and the number of the device is the one in the file.
        ("device: gpu:1", ["use_gpu=true"], "gpu:1"),
        ("device: cuda:1", ["use_gpu=true"], "gpu:1"),
        ("device: 1", ["use_gpu=true"], "gpu:1"),
        ("device: npu:3", ["use_npu=true"], "npu:3"),
        ("device: 1", ["use_npu=true"], "npu:0"),
        ("device: [1]", ["use_gpu=true"], "gpu:1"),
        ("device: iluvatar_gpu", ["use_gpu=true"], "gpu:0"),
        ("{use_gpu: false, use_npu: true}", ["device=gpu"], "gpu:0"),
        ("use_gpu: false", ["device=auto"], "gpu:0"),
        ("device: cpu", ["device=auto"], "gpu:0"),
        ("device: npu", ["device=auto", "use_gpu=false"], "cpu"),
        ("device: cpu", ["epoch=3"], "cpu"),
    ],
)
def test_the_command_line_comes_before_the_file(machine, tmp_path, log, settings, options, expected):
    """Without a warning, since overriding is what the command line is for."""
    machine(gpu=2, xpu=1, npu=4)
    path = tmp_path / "x.yml"
    path.write_text(settings)
    assert set_device(load_config(str(path), options)) == expected
    assert log.messages == [f"device: {expected}"]


def test_contradictions_on_the_command_line(machine, tmp_path, log):
    machine(gpu=2, xpu=1, npu=4)
    path = tmp_path / "x.yml"
    path.write_text("{}")
    assert set_device(load_config(str(path), ["device=gpu:1", "use_gpu=false"])) == "gpu:1"
    assert log.messages == ["device: gpu:1 is used; use_gpu: false is ignored", "device: gpu:1"]
    with pytest.raises(ConfigError, match="-o: use_npu: use_xpu is true as well"):
        set_device(load_config(str(path), ["use_npu=true", "use_xpu=true"]))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            "use_xpu: true\nuse_npu: true",
            r"x.yml:2: use_npu: use_xpu is true as well: leave one of them",
        ),
        ("use_mlu: true", r"x.yml:1: use_mlu: this Paddle .* has no device of type mlu, it has cpu, gpu: install"),
        ("device: gpu:7", r"x.yml:1: device: there is no gpu:7 here"),
        ("device: [0, 1]", r"x.yml:1: device: expected one device"),
    ],
)
def test_where_a_mistake_is(machine, tmp_path, monkeypatch, settings, message):
    machine(gpu=1)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.yml").write_text(settings)
    with pytest.raises(ConfigError, match=message):
        set_device(load_config("x.yml"))


def test_each_process_has_the_device_that_the_launcher_gave_it(machine, monkeypatch):
    machine(gpu=4, npu=4)
    launch(monkeypatch, gpu="3")
    assert (choose(), choose("gpu"), choose("cpu")) == ("gpu:3", "gpu:3", "cpu")
    with pytest.raises(ConfigError, match=r"gpu:1 is one device, and paddle.distributed.launch gives each"):
        choose("gpu:1")
    with pytest.raises(ConfigError, match=r"paddle.distributed.launch gave this process no npu"):
        choose("npu")
    monkeypatch.delenv("FLAGS_selected_gpus")
    launch(monkeypatch, npu="2,3")
    assert choose() == "npu:2"


@pytest.mark.parametrize("processes", [None, "1", "2"])
def test_a_card_that_the_launcher_gave_and_that_is_not_there(machine, monkeypatch, tmp_path, processes):
    """Each process sees other cards than the launcher did, or a variable was left over."""
    empty = tmp_path / "x.yml"
    empty.write_text("{}")
    chosen = machine(gpu=2)
    monkeypatch.setenv("FLAGS_selected_gpus", "5")
    if processes:
        monkeypatch.setenv("PADDLE_TRAINERS_NUM", processes)
    message = "FLAGS_selected_gpus, .*, gives this process gpu:5, and there is only gpu:0 to gpu:1 here: .* unset"
    for value in ("auto", "gpu"):
        with pytest.raises(ConfigError, match=message):
            choose(value)
    assert chosen == [] and choose("cpu") == "cpu"
    with pytest.raises(ConfigError, match=r"^FLAGS_selected_gpus, "):
        set_device(load_config(empty))
    with pytest.raises(ConfigError, match=r"^-o: device: FLAGS_selected_gpus, "):
        set_device(load_config(empty, ["device=gpu"]))


def test_one_process_is_confined_to_the_cards_that_it_was_given_too(machine, monkeypatch):
    """`--devices 1` of the launcher starts one process. Paddle 3.3 and 2.6 make no context for other GPUs in it
    (GetSelectedDevices in paddle/phi/backends/gpu/gpu_info.cc), whoever has set the variable."""
    machine(gpu=4)
    monkeypatch.setenv("FLAGS_selected_gpus", "1, 2")
    assert (choose(), choose("gpu"), choose("gpu:1"), choose("gpu:2")) == ("gpu:1", "gpu:1", "gpu:1", "gpu:2")
    with pytest.raises(ConfigError, match="Paddle was told to use no gpu:0, but gpu:1: unset FLAGS_selected_gpus"):
        choose("gpu:0")
    monkeypatch.setenv("FLAGS_selected_gpus", "²")
    assert choose() == "gpu:0"


@pytest.mark.parametrize("count", ["x", "", "²", "-1", "1.0"])
def test_a_number_of_processes_that_is_none(machine, monkeypatch, count):
    machine(gpu=1)
    monkeypatch.setenv("PADDLE_TRAINERS_NUM", count)
    message = f"PADDLE_TRAINERS_NUM is '{re.escape(count)}'; paddle.distributed.launch sets it"
    with pytest.raises(ConfigError, match=message):
        choose()
    with pytest.raises(ConfigError, match=message), collectives.joined():
        pass


def test_the_hint_names_one_of_several_plugins():
    said = why_on_cpu(["gpu", "npu", "mlu"])
    assert said.endswith("assigns npu devices if PADDLE_XCCL_BACKEND=npu")
    assert "assigns" not in why_on_cpu(["gpu", "xpu"])


@pytest.mark.parametrize(
    ("kind", "told"),
    [
        ("gpu", "GPU{}: PADDLE_DISTRI_BACKEND=gloo, by the launcher or the user, is for processes on CPUs"),
        (
            "npu",
            "npu{}: PADDLE_DISTRI_BACKEND=gloo, by the launcher or the user, is for processes on CPUs; "
            "the launcher of Paddle 2.6 assigns npu devices if PADDLE_XCCL_BACKEND=npu",
        ),
    ],
)
def test_processes_that_talk_through_gloo_are_on_cpus(machine, monkeypatch, log, kind, told):
    """With a warning if another device exists."""
    machine(**{kind: 4})
    launch(monkeypatch)
    monkeypatch.setenv("PADDLE_DISTRI_BACKEND", "gloo")
    assert choose() == "cpu"
    assert log.messages == [f"running on the CPU, although there is {told.format('')}", "device: cpu"]
    with pytest.raises(ConfigError, match=re.escape(f"no {told.format(' was given to this process')}")):
        choose(kind)
    machine(**{kind: 0})
    log.clear()
    assert choose() == "cpu" and log.messages == ["device: cpu"]


@pytest.mark.parametrize(
    ("kind", "before", "backend"),
    [
        ("cpu", None, "gloo"),
        ("cpu", "auto", "gloo"),
        ("cpu", "xccl", "gloo"),
        ("gpu", None, "nccl"),
        ("gpu", "flagcx", "flagcx"),
        ("xpu", None, "bkcl"),
        ("npu", None, "xccl"),
    ],
)
def test_what_processes_talk_through(machine, monkeypatch, kind, before, backend):
    machine()
    monkeypatch.setattr(device, "device_type", lambda: kind)
    if before:
        monkeypatch.setenv("PADDLE_DISTRI_BACKEND", before)
    select_backend()
    assert os.environ["PADDLE_DISTRI_BACKEND"] == backend
    assert os.environ.get("PADDLE_XCCL_BACKEND") == ("npu" if kind == "npu" else None)


def test_paddle_starts_with_the_place_of_the_device(machine, monkeypatch):
    """paddle.distributed.init_parallel_env takes the place of the process from the library: none may be left to it."""
    machine(gpu=1)
    launch(monkeypatch, gpu="0")
    seen = []

    def start():
        seen.append(os.environ["PADDLE_DISTRI_BACKEND"])
        monkeypatch.setattr(device, "name", lambda: "gpu:0")

    monkeypatch.setattr(collectives.dist, "init_parallel_env", start)
    message = "the device was cpu, and is gpu:0 since Paddle has started to communicate"
    with pytest.raises(ConfigError, match=message), collectives.joined():
        pass
    assert seen == ["gloo"]


def test_option_of_the_tools(monkeypatch):
    import commands

    monkeypatch.setattr("sys.argv", ["train.py", "-c", "x.yml", "-o", "epoch=1", "--device", "npu:1", "-o", "seed=2"])
    assert commands.load("tools/train.py").parse_arguments().opt == ["epoch=1", 'device="npu:1"', "seed=2"]
    for tool in ("eval", "infer", "analyze"):
        assert "--device DEVICE" in commands.call(f"tools/{tool}.py", "--help")


@pytest.mark.parametrize(
    "command",
    [
        "train.py -c {file}",
        "train.py -c {file} --dry_run",
        "eval.py -c {file}",
        "eval.py {run}",
        "infer.py -c {file} --infer_img {image}",
        "infer.py {run} --infer_img {image}",
        "analyze.py {run} --evaluate",
        "analyze.py {run} --evaluate -c {file}",
    ],
)
def test_every_command_takes_the_device_that_it_is_told(tmp_path, tiny, monkeypatch, command):
    """No command starts on another device, or joins other processes first: an unknown type ends it at once."""
    import commands

    def joined(**options):
        raise ConfigError("joined")

    monkeypatch.setattr(collectives, "joined", joined)
    run, image = tmp_path / "run", tmp_path / "image.png"
    run.mkdir()
    load_config(str(tiny)).dump(run / "config.yml")
    (run / "model_final.pdparams").write_bytes(b"weights")
    image.write_bytes(b"picture")
    words = command.format(file=tiny, run=run, image=image).split()
    printed = commands.call(f"tools/{words[0]}", *words[1:], "--device", "abacus", code=2)
    assert re.search(r"error: -o: device: this Paddle \(.*\) has no device of type abacus, it has cpu", printed), (
        printed
    )


def test_published_detectors_take_the_device_that_they_are_told(tmp_path):
    import ppdet.zoo

    with pytest.raises(ConfigError, match=r"-o: device: this Paddle .* has no device of type abacus"):
        ppdet.zoo.load("fcos_r50_fpn_1x_coco", weights=str(tmp_path / "nothing.pdparams"), overrides=["device=abacus"])


def test_an_export_is_made_on_the_cpu(tmp_path):
    """So nothing chooses its device; a mistake in `device` is still one."""
    import commands

    printed = commands.call("tools/export_model.py", "-c", "x.yml", "--device", "gpu", code=2)
    assert "unrecognized arguments: --device; --device: this command computes on the CPU, on every machine" in printed
    path = tmp_path / "x.yml"
    path.write_text("architecture: FCOS")
    for value in ("nonsense:x", "gpu:²", "[0, 1]"):
        printed = commands.call("tools/export_model.py", "-c", path, "-o", f"device={value}", code=2)
        assert printed.splitlines()[-1].startswith("error: -o: device: expected "), printed


def test_tools_that_compute_nothing_worth_a_card_leave_it_alone(machine, monkeypatch):
    import commands

    chosen = machine(gpu=1)
    monkeypatch.setattr(commands.load("tools/model_zoo.py"), "page", lambda: chosen.append("page") or ["nothing"])
    assert commands.execute("tools/model_zoo.py", "--check").returncode != 0
    assert chosen == ["cpu", "page"]
    chosen.clear()
    commands.call("tools/convert_weights.py", "nothing.pth", "--to", "nothing.pdparams", code=2)
    assert chosen == ["cpu"]


def test_names_of_types():
    assert set(device.BUILDS) | set(device_choice.PLUGINS) >= {"gpu", "xpu", *device_choice.USE, "iluvatar_gpu"}
