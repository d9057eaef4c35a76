"""Depths of ResNets and names of their blocks, which the backbone and the conversion of weights share."""

from collections.abc import Sequence

# depth -> (number of blocks in res2 to res5, whether the blocks are bottlenecks)
DEPTHS: dict[int, tuple[tuple[int, ...], bool]] = {
    18: ((2, 2, 2, 2), False),
    34: ((3, 4, 6, 3), False),
    50: ((3, 4, 6, 3), True),
    101: ((3, 4, 23, 3), True),
    152: ((3, 8, 36, 3), True),
}


def block_name(blocks: Sequence[int], stage: int, index: int) -> str:
    """The name of a block in published weights.

    Blocks have letters (res4a, res4b, res4c), but in a res4 of more than 6 blocks numbers (res4a, res4b1, res4b2).

    Args:
        blocks: number of blocks in res2, res3, and so on.
        stage: 2 for res2 to 5 for res5.
        index: number of the block in its stage, from 0.
    """
    if stage == 4 and len(blocks) > 2 and blocks[2] > 6:
        return "res4a" if index == 0 else f"res4b{index}"
    return f"res{stage}{chr(ord('a') + index)}"
