"""Random numbers of a step, which depend on nothing but the run's seed, the step and the rank."""

import random

import numpy as np
import paddle


def seed_generators(seed: int, iteration: int, rank: int) -> None:
    """Seed the random generators of Python, NumPy and Paddle for one step."""
    number = int(np.random.SeedSequence((seed, iteration, rank)).generate_state(1)[0])
    random.seed(number)
    np.random.seed(number)
    paddle.seed(number)
