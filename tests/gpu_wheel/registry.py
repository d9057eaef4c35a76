"""Paddle's registry of GPU kernels, and the types that automatic casting gives them."""

import functools
import re

from paddle.amp import amp_lists
from paddle.base import core
from recording import Kernel

SMALL_TYPES = ("float16", "bfloat16")
LEVELS = ("O1", "O2")


@functools.cache
def registered() -> dict[str, set[tuple[str, str, str]]]:
    """Backend, layout and type of the implementations of each kernel."""
    kernels = core._get_registered_phi_kernels()
    return {name: {re.match(r"\((.+), (.+), (.+)\)", key).groups() for key in keys} for name, keys in kernels.items()}


def where(kernel: Kernel) -> str:
    """Where a kernel is computed when its arguments are on a GPU: "gpu"; "host" where Paddle copies them to the CPU and
    computes there; "nowhere" where it raises.

    As phi::KernelFactory::SelectKernelOrThrowError selects (paddle/phi/core/kernel_factory.cc). Only a caller that may
    take views is given a kernel that makes them.
    """
    found = registered().get(kernel.name, set())
    has = {
        backend
        for backend, layout, dtype in found
        if dtype in (kernel.dtype, "Undefined(ALL_DTYPE)") and (layout != "STRIDED" or kernel.views)
    }
    return "gpu" if has & {"GPU", "GPUDNN"} else "host" if "CPU" in has else "nowhere"


@functools.cache
def operators() -> dict[str, set[str]]:
    """A kernel's names in automatic casting, which are names of operators of static graphs."""
    names: dict[str, set[str]] = {}
    for operator in core.op_supported_infos("GPU", core.VarDesc.VarType.FP16)[0]:
        names.setdefault(core._get_phi_kernel_name(operator), set()).add(operator)
    return names


@functools.cache
def without_support(dtype: str) -> frozenset[str]:
    """Operators that Paddle itself keeps in float32 under automatic casting: no GPU kernel takes the type."""
    types = {"float16": core.VarDesc.VarType.FP16, "bfloat16": core.VarDesc.VarType.BF16}
    return frozenset(core.op_supported_infos("GPU", types[dtype])[2])


def keeps_float32(kernel: str, dtype: str, level: str) -> bool:
    """Whether automatic casting gives a kernel float32, whatever types its arguments have.

    As GetAmpDestDtype does (paddle/fluid/eager/amp_utils.h). It asks by one of the operators that have this kernel:
    by which is not to be seen here, so all of them have to be kept.
    """
    return operators().get(kernel, {kernel}) <= amp_lists.black_list()[dtype][level] | without_support(dtype)
