"""What not every processor has; asked of oneDNN."""

import pytest

from ppdet.modeling import cpu

needs_bfloat16 = pytest.mark.skipif(not cpu.agrees("bfloat16"), reason="oneDNN has no bfloat16 on this processor")
