"""Learning rate, optimizer and weight averaging. Importing this package registers its components."""

from ppdet.optimizer import learning_rate
from ppdet.optimizer.ema import ModelEMA
from ppdet.optimizer.optimizer import OptimizerBuilder

__all__ = ["ModelEMA", "OptimizerBuilder", "learning_rate"]
