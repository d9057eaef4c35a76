"""What the machine has: nothing here can fail by being absent, but Paddle itself has to work."""

import os

from ppdet.acceptance.context import Context
from ppdet.acceptance.registry import check
from ppdet.acceptance.results import Failed, Outcome


@check(
    "environment/paddle",
    title="Paddle's build, its CUDA and cuDNN, and a product of matrices on the device",
    advice="""Paddle cannot compute on this device at all: nothing else can work. Compare the CUDA version that Paddle
    was built for with the driver's (nvidia-smi shows the newest that it takes), install the paddlepaddle-gpu of that
    CUDA from Paddle's own site, and run `python -c "import paddle; paddle.utils.run_check()"`.""",
    limit=120,
    seconds=5,
)
def paddle_build(context: Context) -> Outcome:
    import numpy as np
    import paddle

    from ppdet.utils import device as devices

    numbers = {
        "paddle": paddle.__version__,
        "paddle_commit": paddle.version.commit,
        "cuda": paddle.version.cuda(),
        "cudnn": paddle.version.cudnn(),
        "nccl": paddle.version.nccl() if hasattr(paddle.version, "nccl") else None,
        "device": devices.name(),
        "packages": context.facts.packages,
        "processors": len(os.sched_getaffinity(0)),
        "threads": os.environ.get("OMP_NUM_THREADS"),
    }
    left, right = (np.random.default_rng(seed).normal(size=(64, 64)) for seed in (1, 2))
    product = paddle.matmul(*(paddle.to_tensor(side, dtype="float32") for side in (left, right))).numpy()
    error = float(abs(product - left @ right).max())
    numbers["largest_error"] = error
    # Sums of 64 products near 1, each rounded to TF32's 10 bits at most: 64 * 16 * 2^-11 = 0.5 cannot be reached.
    if not error < 0.5:
        raise Failed(f"a product of matrices on {numbers['device']} is off by {error:.1e}", **numbers)
    return Outcome(f"paddle {paddle.__version__}, CUDA {numbers['cuda']}, cuDNN {numbers['cudnn']}", numbers)
