"""Weights of other code bases, under this project's names. Nothing here needs Paddle or PyTorch."""

from ppdet.convert.checkpoint import Checkpoint, ConversionError, read_checkpoint
from ppdet.convert.conversion import CODE_BASES, Conversion, convert, convert_path
from ppdet.convert.report import describe
from ppdet.convert.suggest import fitting, suggest
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
