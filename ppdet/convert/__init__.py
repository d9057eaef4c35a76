"""Weights of other code bases, under this project's names. Nothing here needs Paddle or PyTorch."""

from ppdet.convert.conversion import CODE_BASES, Conversion, convert, convert_path
from ppdet.convert.named_arrays import Checkpoint, ConversionError, read_checkpoint
from ppdet.convert.suggest import fitting, suggest
from ppdet.convert.summary import describe
from ppdet.convert.verify import needed, verify

__all__ = [
    "CODE_BASES",
    "Checkpoint",
    "Conversion",
    "ConversionError",
    "convert",
    "convert_path",
    "describe",
    "fitting",
    "needed",
    "read_checkpoint",
    "suggest",
    "verify",
]
