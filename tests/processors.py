"""What not every processor has; asked of oneDNN."""

import paddle
import pytest

from ppdet.modeling import cpu

needs_bfloat16 = pytest.mark.skipif(not cpu.agrees("bfloat16"), reason="oneDNN has no bfloat16 on this processor")
# On a processor with AVX-512 alone, Paddle Inference computes some batches in bfloat16, and fails on others.
needs_bfloat16_graphs = pytest.mark.skipif(
    not (cpu.agrees("bfloat16") and paddle.base.core.supports_bfloat16_fast_performance()),
    reason="this processor has no AVX-512 BF16, with which Paddle Inference computes all graphs in bfloat16",
)
