"""Operators whose precision, or engine, is chosen by their names."""

# By their names in Paddle 3, and where Paddle 2 has others, by those.
_DECODING = """
arange cast clip concat divide expand flatten flip floor gather max maximum minimum multiply pad pad3d reshape scale
sigmoid slice split sqrt squeeze stack strided_slice subtract take_along_axis tile topk transpose unbind unsqueeze where
elementwise_div elementwise_max elementwise_min elementwise_mul elementwise_sub expand_v2 flatten_contiguous_range
range reduce_max reshape2 squeeze2 top_k_v2 transpose2 unsqueeze2
"""
_NETWORKS = """
concat expand expand_v2 flatten flatten_contiguous_range sigmoid split transpose transpose2 unsqueeze unsqueeze2
"""

# What boxes and scores are decoded with. Where a graph computes in 16 bits these stay in float32: in bfloat16 a
# location at 1,348 pixels lies at 1,344, and from 1,024 on float16 has whole pixels alone. Paddle Inference would take
# 16 bits wherever a kernel has them, and goes by names, so that decoding subtracts: networks add.
FLOAT32_OPERATORS = frozenset(_DECODING.split())
# For Paddle's pass: Paddle 3 would round what enters concat and stack where it is combined to a list, and turn it back.
LEFT_IN_FLOAT32 = FLOAT32_OPERATORS | {"builtin.combine"}
# Those that networks have on large maps too, between convolutions (FPN's upsampling, deformable convolutions).
OF_NETWORKS = frozenset(_NETWORKS.split())
# What TensorRT leaves to Paddle: the others, so that the network is one engine, and what follows it in float32.
NOT_FOR_TENSORRT = FLOAT32_OPERATORS - OF_NETWORKS
