"""Every kernel that training, evaluation and exported graphs select has one on a GPU, or is a known exception."""

from pathlib import Path

import pytest
import yaml

EXCEPTIONS = yaml.safe_load(Path(__file__).with_name("exceptions.yml").read_text())
SMALL_TYPES = ("float16", "bfloat16")


@pytest.fixture(scope="session")
def kernels(recording):
    """All of them, each once."""
    return set().union(*recording.values())


@pytest.fixture(scope="session")
def floats(kernels):
    """Those that are given float32, which automatic casting may make another type."""
    return {kernel for kernel in kernels if kernel.dtype == "float32"}


def test_all_cases_are_recorded(recording):
    from cases import SIGNS, cases

    for name in cases():
        assert {f"{name}: {part}" for part in ("build", "train", "evaluate")} <= set(recording)
    for case, signs in SIGNS.items():
        sections = [calls for name, calls in recording.items() if name.startswith(case)]
        names = {kernel.name for calls in sections for kernel in calls}
        assert set(signs) <= names, f"{case}: {set(signs) - names} not among {sorted(names)}"


def test_types_as_recorded(kernels):
    import registry

    elsewhere = {f"{k.name} {k.dtype}": registry.where(k) for k in kernels if registry.where(k) != "gpu"}
    assert elsewhere == {name: entry["where"] for name, entry in EXCEPTIONS["as_recorded"].items()}


@pytest.mark.parametrize("dtype", SMALL_TYPES)
def test_types_of_mixed_precision(floats, dtype):
    """What no GPU kernel takes in the small type is not given it: Paddle keeps it in float32, or never casts there."""
    import registry

    missing = {kernel.name for kernel in floats if registry.where(kernel._replace(dtype=dtype)) != "gpu"}
    kept, never = (set(EXCEPTIONS[dtype][key] or ()) for key in ("kept_in_float32", "never_given"))
    assert not kept & never
    assert missing == kept | never
    for name in kept:
        forward = name.removesuffix("_grad")
        assert all(registry.keeps_float32(forward, dtype, level) for level in registry.LEVELS), name


@pytest.mark.parametrize("dtype", ("float32", *SMALL_TYPES))
def test_synchronized_batch_norm(dtype):
    """It has no kernel on a CPU, so no step with it is recorded."""
    import registry
    from recording import Kernel

    for name in ("sync_batch_norm", "sync_batch_norm_grad"):
        assert registry.where(Kernel(name, dtype, False)) == "gpu"
        assert not any(backend == "CPU" for backend, *_ in registry.registered()[name])


def test_the_rule_sees_what_is_missing():
    """Cases known from Paddle's sources: where a kernel is registered."""
    import registry
    from recording import Kernel

    expected = {
        ("conv2d", "bfloat16"): "gpu",  # conv_kernel.cu, by cuDNN
        ("deformable_conv", "float32"): "gpu",
        ("deformable_conv", "float16"): "nowhere",
        ("multiclass_nms3", "float64"): "host",  # multiclass_nms3_kernel.cu has float alone
        ("flatten", "bool"): "nowhere",  # flatten_kernel.cc; it is a view where it may be
    }
    assert {key: registry.where(Kernel(*key, False)) for key in expected} == expected
    assert registry.where(Kernel("flatten", "bool", True)) == "gpu"
    assert registry.keeps_float32("multiclass_nms3", "float16", "O2")
    assert registry.keeps_float32("group_norm", "bfloat16", "O1")
    assert not registry.keeps_float32("group_norm", "bfloat16", "O2")
    assert not registry.keeps_float32("conv2d", "float16", "O1")


def test_summary(recording, kernels, floats, summary):
    import registry

    names = {kernel.name for kernel in kernels}
    counts = [f"{len(kernels)} pairs of kernel and type as recorded, {len(EXCEPTIONS['as_recorded'])} without one"]
    for dtype in SMALL_TYPES:
        there = [k for k in floats if registry.where(k._replace(dtype=dtype)) == "gpu"]
        counts.append(f"{dtype}: {len({k.name for k in there})} of {len({k.name for k in floats})} given float32")
    cases = {name.partition(":")[0] for name in recording}
    summary.append(f"kernels on a GPU: {len(cases)} runs select {len(names)} kernels; " + "; ".join(counts))
    assert len(names) > 80
