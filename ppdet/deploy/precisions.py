"""The precisions in which exported models compute."""

PRECISIONS = ("fp32", "bf16", "fp16")
