"""The share of locations that DenseTeacher's teacher selects, from the positives of labeled images."""

import json
import math
from types import SimpleNamespace

import numpy as np
import paddle
import pytest

from ppdet.core.workspace import load_config
from ppdet.engine.distributed import collectives
from ppdet.engine.hooks import AutoRatioHook, Hook, PseudoLabelHook, SelectionHook
from ppdet.engine.hooks.auto_ratio import DECAY, MARGIN
from ppdet.engine.trainer import Trainer
from ppdet.modeling.losses import SSODFCOSLoss

# Positives of class 1, of class 2, and locations of the batches of a step; the steps after which the average is read.
COUNTS = [[(3, 1, 100)], [(10, 0, 200), (0, 2, 100)], *[[(step % 7, step % 3, 100)] for step in range(64)]]
READ = (1, 2, 4, 8, 16, 32, 64)


def step_of(loss, counts):
    """A trainer with batches that have these numbers of positives and of all locations."""
    batches = []
    for first, second, size in counts:
        labels = np.zeros((2, size // 2), np.int32)
        labels.flat[:first] = 1
        labels.flat[first : first + second] = 2
        batches.append({"target_labels": paddle.to_tensor(labels)})
    return SimpleNamespace(batches=batches, method=SimpleNamespace(layer=SimpleNamespace(loss=loss)))


def ratios(hook, steps):
    loss, found = SSODFCOSLoss(ratio="auto"), []
    hook.before_train(step_of(loss, []))
    for counts in steps:
        hook.before_step(step_of(loss, counts))
        found.append(loss.ratio)
    return found


def test_twice_the_moving_share():
    """Each step counts 0.99 times as much as the next one; the first one gives the first value."""
    expected, sums = [], np.zeros(3)
    for number, counts in enumerate(COUNTS, start=1):
        sums = 0.99 * sums + np.sum(counts, axis=0)
        expected.append(2 * sums[:2] / sums[2] if number in READ else expected[-1])
    found = ratios(AutoRatioHook(2), COUNTS)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert found[0] == pytest.approx([0.06, 0.02])
    assert (MARGIN, DECAY) == (2.0, 0.99)


def test_at_most_all_locations():
    assert ratios(AutoRatioHook(2), [[(70, 10, 100)]]) == [pytest.approx([1.0, 0.2])]


@pytest.mark.parametrize("cut", [1, 3, 40])
def test_a_checkpoint_keeps_it_to_the_last_bit(cut):
    whole, first, second = AutoRatioHook(2), AutoRatioHook(2), AutoRatioHook(2)
    assert first.state() is None
    found = ratios(first, COUNTS[:cut])
    second.load_state(json.loads(json.dumps({**first.state(), "counts": first.state()["counts"].tolist()})))
    assert found + ratios(second, COUNTS[cut:]) == ratios(whole, COUNTS)
    assert whole.counts.tolist() == second.counts.tolist()


def test_a_checkpoint_with_one_share_for_all_classes_counts_anew():
    """Earlier versions wrote such checkpoints."""
    hook, new = AutoRatioHook(2), AutoRatioHook(2)
    hook.load_state({"counts": np.array([70.0, 100.0], np.float32), "steps": 40, "ratio": 0.7})
    assert ratios(hook, COUNTS) == ratios(new, COUNTS)


def test_all_ranks_count(monkeypatch):
    """This rank has 6 and 1 of 100 positive; the other one, with a batch of another size, 10 and 3 of 300."""
    monkeypatch.setattr(collectives, "world_size", lambda: 2)
    others = paddle.to_tensor([10.0, 3.0, 300.0])
    monkeypatch.setattr(collectives.dist, "all_reduce", lambda value: value.add_(others))
    assert ratios(AutoRatioHook(2), [[(6, 1, 100)]]) == [pytest.approx([2 * 16 / 400, 2 * 4 / 400])]


def test_a_run_selects_and_logs_it(tiny_semi):
    """From the first step on; labels of the views are counted here, and losses come with the share that was used."""
    seen = []

    class Count(Hook):
        def before_step(self, trainer):
            (batch,) = trainer.batches
            labels = batch["target_labels"].numpy()
            seen.append([(labels > 0).sum(), labels.size])

        def after_report(self, trainer, report):
            seen[-1].append(report["losses"].get("ratio"))

    options = ["DenseTeacher.train_cfg.ratio=auto", "epoch=1"]
    run = Trainer(load_config(str(tiny_semi), options), hooks=[Count()])
    kinds = [type(hook) for hook in run.hooks]
    assert AutoRatioHook in kinds and SelectionHook not in kinds
    run.train()
    (p1, n1, first), (p2, n2, second), (_, _, third), (p4, n4, _) = seen
    assert first is None  # the first step has labeled images alone
    assert second == third == pytest.approx(2 * (0.99 * p1 + p2) / (0.99 * n1 + n2), rel=1e-6)
    lines = [json.loads(line) for line in (run.output / "history.jsonl").read_text().splitlines()]
    reports = [line["losses"] for line in lines if line["event"] == "report"]
    assert [losses.get("ratio") for losses in reports] == [row[2] for row in seen]
    # The hook after it measures with the same share.
    figures = next(line["figures"] for line in lines if line["event"] == "pseudo_labels")
    selected = figures["fg_sum"] / figures["mean_score"]
    # 7 images of 64 x 96: 8 * 12 + 4 * 6 + 2 * 3 locations each.
    counts = [math.ceil(7 * 126 * share) for share in run.method.layer.loss.ratio]
    assert selected == pytest.approx(min(sum(counts), 7 * 126), rel=1e-3)
    assert p4 and n4


def test_before_the_first_step_it_is_unknown(tiny_semi, monkeypatch):
    """Nothing is measured then, unless the checkpoint that a run resumes knows it."""
    run = Trainer(load_config(str(tiny_semi), ["DenseTeacher.train_cfg.ratio=auto"]))
    run.pretrained = True
    (hook,) = (hook for hook in run.hooks if isinstance(hook, AutoRatioHook))
    calls = []
    monkeypatch.setattr(PseudoLabelHook, "measure_on_rank_0", lambda *args: calls.append(args))
    for hook.ratio, measured in ((None, 0), ([0.05, 0.01], 1)):
        run.call_hooks("before_train")
        assert len(calls) == measured
        assert len(run.hooks[-1].writes(run)) == measured + 2
