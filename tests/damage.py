"""Files with bytes cut off and changed."""

import numpy as np

from ppdet.engine.checkpoints.weights import CheckpointError, read_arrays


def read_damaged(path, valid, share, changes):
    """Read the first `share` of `valid`, with bytes at relative places changed: the result is arrays or a one-line
    error."""
    content = bytearray(valid[: round(share * len(valid))])
    for place, value in changes if content else []:
        content[int(place * (len(content) - 1))] = value
    path.write_bytes(valid)
    expected = read_arrays(path)
    path.write_bytes(content)
    try:
        arrays = read_arrays(path)
    except CheckpointError as error:
        assert str(error).startswith(f"{path}: ") and "\n" not in str(error)
        assert content != valid, "the whole file was refused"
    else:
        if content == valid:
            assert len(arrays) > 1
            np.testing.assert_equal(arrays, expected)
