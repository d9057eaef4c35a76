"""Learning rate, optimizer and weight averaging. Importing this package registers its components."""

from ppdet.optimizer.ema import ModelEMA
from ppdet.optimizer.learning_rate import (
    ConstantWarmup,
    CosineDecay,
    ExpWarmup,
    LearningRate,
    LinearWarmup,
    PiecewiseDecay,
)
from ppdet.optimizer.optimizer import OptimizerBuilder

__all__ = [
    "ConstantWarmup",
    "CosineDecay",
    "ExpWarmup",
    "LearningRate",
    "LinearWarmup",
    "ModelEMA",
    "OptimizerBuilder",
    "PiecewiseDecay",
]
