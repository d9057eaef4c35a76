"""Names of the operators with which a graph decodes boxes: they stay in float32, and out of TensorRT."""

# Names in Paddle 3, then those that Paddle 2 calls otherwise.
_DECODING = """
arange cast clip concat divide exp expand flatten flip floor gather max maximum minimum multiply pad pad3d reshape scale
sigmoid slice split sqrt squeeze stack strided_slice subtract take_along_axis tile topk transpose unbind unsqueeze where
elementwise_div elementwise_max elementwise_min elementwise_mul elementwise_sub expand_v2 flatten_contiguous_range
range reduce_max reshape2 squeeze2 top_k_v2 transpose2 unsqueeze2
"""
_NETWORKS = """
concat expand expand_v2 flatten flatten_contiguous_range sigmoid split transpose transpose2 unsqueeze unsqueeze2
"""

# In a graph that computes in 16 bits, these operators stay in float32: in bfloat16 a location at 1,348 pixels would be
# at 1,344, and from 1,024 on float16 has whole pixels only. Paddle Inference would use 16 bits wherever a kernel has
# them, and it can only be told by names of operators. That is why decoding subtracts and networks add.
FLOAT32_OPERATORS = frozenset(_DECODING.split())
# For Paddle 3's pass also builtin.combine, which makes the list of inputs of concat and stack: the pass would round
# these inputs to 16 bits and convert them back.
LEFT_IN_FLOAT32 = FLOAT32_OPERATORS | {"builtin.combine"}
# Operators that networks apply to large maps between convolutions too (FPN's upsampling, deformable convolutions).
OF_NETWORKS = frozenset(_NETWORKS.split())
# Operators that TensorRT leaves to Paddle, so that the network is one engine, and decoding is in float32.
NOT_FOR_TENSORRT = FLOAT32_OPERATORS - OF_NETWORKS
