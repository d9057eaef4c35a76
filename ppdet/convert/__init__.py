"""Converts weight files of PyTorch code bases to this project's parameter names, without PyTorch or Paddle.

named_arrays.py reads the file, conversion.py renames and adapts its arrays by the tables of one code base
(code_bases.py), verify.py compares them with a model.
"""

from ppdet.convert.code_bases import CODE_BASES
from ppdet.convert.conversion import Conversion, convert, convert_path
from ppdet.convert.named_arrays import Checkpoint, ConversionError, read_checkpoint
from ppdet.convert.suggest import fitting, suggest
from ppdet.convert.summary import summary_lines
from ppdet.convert.verify import needed, verify

__all__ = [
    "CODE_BASES",
    "Checkpoint",
    "Conversion",
    "ConversionError",
    "convert",
    "convert_path",
    "fitting",
    "needed",
    "read_checkpoint",
    "suggest",
    "summary_lines",
    "verify",
]
