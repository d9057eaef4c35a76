"""The counter of kernels sees each call of one, forward, backward and in place, in the part that it was made in."""

import paddle
from counting import Kernels, part


def test_kernels_are_counted_by_part():
    weight = paddle.create_parameter([4, 3], "float32")
    optimizer = paddle.optimizer.Momentum(0.1, parameters=[weight])
    ones = paddle.ones([2, 4])
    with Kernels() as kernels:
        with part("forward"):
            loss = paddle.matmul(ones, weight).sum()
            with part("beside it"):
                paddle.ones([2]).scale_(2.0)
        loss.backward()
        with part("optimizer"):
            optimizer.step()
        for _ in range(3):
            paddle.add(ones, ones)
    counts = {name: dict(counter) for name, counter in kernels.counts.items()}
    assert counts["forward"] == {"matmul": 1, "sum": 1}
    assert counts["beside it"] == {"full": 1, "scale": 1}
    assert counts["backward"]["matmul_grad"] == 1 and counts["backward"]["sum_grad"] == 1
    assert counts["optimizer"]["momentum"] == 1
    assert counts[""] == {"add": 3}
    assert kernels.total() == sum(sum(counter.values()) for counter in counts.values())
    assert kernels.total("forward", "beside it") == 4
