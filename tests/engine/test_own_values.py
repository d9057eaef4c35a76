"""A value of the user's own means the same however it arrives, and a merged file keeps it so."""

import pytest

from ppdet.core.tree import render_inline
from ppdet.core.workspace import load_config, merge_config
from ppdet.engine.training.auto_lr import learning_rate
from ppdet.engine.training.run_length import steps_per_iteration, total_steps

BASE = """
epoch: null
max_iters: 60
auto_lr: {base_batch_size: 8}
LearningRate:
  base_lr: 0.01
  schedulers: [PiecewiseDecay: {milestones: [30, 50], unit: iteration}]
"""
RATE = {"LearningRate.base_lr": 0.002}


@pytest.fixture
def base(tmp_path):
    path = tmp_path / "base.yml"
    path.write_text(BASE)
    return path


def arrivals(base, values, text):
    """The same values above base.yml, in every way there is, each with the origin that messages name."""
    top = base.with_name("top.yml")
    top.write_text(f"_BASE_: base.yml\n{text}")
    beside, below = base.with_name("values.yml"), base.with_name("beside.yml")
    beside.write_text(text)
    below.write_text("_BASE_: [base.yml, values.yml]\n")
    yield load_config(base, [f"{key}={render_inline(value)}" for key, value in values.items()])
    yield load_config(base, values)
    yield merge_config(load_config(base), values)
    yield load_config(top)
    yield load_config(below)


def behavior(cfg, images=2):
    """base_lr of a run, steps of the whole run, steps per iteration of the milestones."""
    rate = learning_rate(cfg, images).base_lr
    return rate, total_steps(cfg, 1000, images), steps_per_iteration(cfg, "milestones", images)


@pytest.mark.parametrize(
    ("values", "text", "expected"),
    [
        (RATE, "LearningRate: {base_lr: 0.002}\n", (0.002, 240, 4)),
        ({"max_iters": 40}, "max_iters: 40\n", (0.0025, 40, 4)),
        ({"epoch": 3}, "epoch: 3\n", (0.0025, 240, 4)),
        (
            {"LearningRate.schedulers": [{"PiecewiseDecay": {"milestones": [7], "unit": "iteration"}}]},
            "LearningRate: {schedulers: [PiecewiseDecay: {milestones: [7], unit: iteration}]}\n",
            (0.0025, 240, 1),
        ),
        ({**RATE, "auto_lr": None}, "LearningRate: {base_lr: 0.002}\nauto_lr: null\n", (0.002, 60, 1)),
        ({"auto_lr.base_batch_size": 16}, "auto_lr: {base_batch_size: 16}\n", (0.00125, 480, 8)),
    ],
)
def test_how_a_value_arrives_changes_nothing(base, tmp_path, values, text, expected):
    for number, cfg in enumerate(arrivals(base, values, text)):
        cfg.dump(tmp_path / f"{number}.yml")
        for one in (cfg, load_config(tmp_path / f"{number}.yml")):
            assert behavior(one) == pytest.approx(expected), one.path


def test_a_merged_file_names_what_was_the_users_own(base, tmp_path):
    cfg = load_config(base, ["LearningRate.base_lr=0.002", "max_iters=40"])
    cfg.dump(tmp_path / "merged.yml")
    again = load_config(tmp_path / "merged.yml")
    assert again["auto_lr"] == {"base_batch_size": 8, "literal": ["base_lr", "max_iters"]}
    assert cfg["auto_lr"]["literal"] is None
    again.dump(tmp_path / "again.yml")
    assert load_config(tmp_path / "again.yml").to_dict() == again.to_dict()
    # Values that come on top of it are the user's own as well, unless an auto_lr.literal does not name them.
    assert behavior(merge_config(again, {"LearningRate.base_lr": 0.5}))[0] == 0.5
    both = {"LearningRate.base_lr": 0.5, "auto_lr.base_batch_size": 4}
    assert behavior(merge_config(again, both))[:2] == (0.5, 40)
    assert behavior(merge_config(again, {**both, "auto_lr.literal": ["max_iters"]}))[:2] == (0.25, 40)


def test_a_file_says_beside_a_value_for_how_many_images_it_is(base):
    top = base.with_name("top.yml")
    top.write_text("_BASE_: base.yml\nLearningRate: {base_lr: 0.002}\nauto_lr: {base_batch_size: 4}\n")
    assert behavior(load_config(top)) == pytest.approx((0.001, 120, 2))
    # Said of values of files, -o is the same, and values of one's own beside it are as they were.
    assert behavior(load_config(base, ["auto_lr.base_batch_size=4"])) == pytest.approx((0.005, 120, 2))


OWN = {"LearningRate.base_lr": 0.5, "max_iters": 40}
MILESTONES = "LearningRate.schedulers.0.milestones"


@pytest.mark.parametrize("later", [{}, {"auto_lr.base_batch_size": 4}, {"auto_lr": {"base_batch_size": 8}}])
def test_what_is_said_of_auto_lr_leaves_values_of_the_users_own_alone(base, tmp_path, later, log):
    own = {**OWN, MILESTONES: [7]}
    plain, together = load_config(base), {**own, **later}
    ways = [
        load_config(base, [f"{key}={render_inline(value)}" for key, value in together.items()]),
        load_config(base, together),
        merge_config(merge_config(plain, own), later),
        merge_config(merge_config(plain, later), own),
        merge_config(merge_config(merge_config(plain, {"LearningRate.base_lr": 0.1}), together), later),
    ]
    for number, cfg in enumerate(ways):
        cfg.dump(tmp_path / f"{number}.yml")
        again = load_config(tmp_path / f"{number}.yml")
        for one in (cfg, again, merge_config(again, later)):
            assert behavior(one) == (0.5, 40, 1), number
        # It is told what auto_lr would make of the file's own rate, 0.01, not of the user's.
        log.clear()
        learning_rate(cfg, 2)
        would_be = 0.01 * 2 / cfg["auto_lr"]["base_batch_size"]
        assert f"is {0.5 / would_be:.3g} times the rate that 2 images per step would have by auto_lr" in log.text
        assert ("learning rate: 0.5, as " in log.text) == (bool(later) and number != 3)


@pytest.mark.parametrize(
    ("literal", "expected"),
    [([], (0.25, 80, 2)), (["base_lr"], (0.5, 80, 2)), (["max_iters", "milestones"], (0.25, 40, 1))],
)
def test_an_explicit_list_has_values_of_the_users_own_scaled(base, tmp_path, literal, expected):
    asked = {"auto_lr.base_batch_size": 4, "auto_lr.literal": literal}
    for number, cfg in enumerate(
        [
            load_config(base, {**OWN, **asked}),
            merge_config(load_config(base, OWN), asked),
            load_config(base, [f"{key}={render_inline(value)}" for key, value in {**asked, **OWN}.items()]),
        ]
    ):
        cfg.dump(tmp_path / f"{number}.yml")
        for one in (cfg, load_config(tmp_path / f"{number}.yml")):
            assert behavior(one) == pytest.approx(expected), number
        # What comes after the list is the user's own again.
        assert behavior(merge_config(cfg, {"LearningRate.base_lr": 0.3}))[0] == 0.3


def test_layers_follow_each_other(base):
    cfg = load_config(base)
    assert [cfg.layer(key) for key in ("LearningRate.base_lr", "auto_lr", "seed")] == [1, 1, 0]
    once = merge_config(cfg, {"LearningRate.base_lr": 0.5})
    twice = merge_config(once, {"auto_lr.base_batch_size": 4})
    assert cfg.layer("LearningRate.base_lr") < once.layer("LearningRate.base_lr") < twice.layer("auto_lr")
    assert behavior(once)[0] == behavior(twice)[0] == 0.5 and behavior(twice)[1] == 120
    assert twice.up_to_layer("LearningRate.base_lr", cfg.layer("auto_lr")) == 0.01
    assert twice.up_to_layer("log_iter", 1) == 20


def test_messages_name_where_the_value_came_from(base, log):
    wild = {"LearningRate.base_lr": 3.0}
    for cfg in arrivals(base, wild, "LearningRate: {base_lr: 3.0}\n"):
        learning_rate(cfg, 2)
    said = [r.getMessage() for r in log.records if "times the rate" in r.getMessage()]
    assert [line.partition(": LearningRate")[0].rpartition("/")[2] for line in said] == [
        *("-o", "load_config", "merge_config", "top.yml:2", "values.yml:1")
    ]
    assert "LearningRate.base_lr 3 is 1.2e+03 times the rate that 2 images per step would have by auto_lr" in said[0]


def test_python_mistakes_do_not_speak_of_the_command_line(base):
    for make, name in ((load_config, "load_config"), (merge_config, "merge_config")):
        start = base if make is load_config else load_config(base)
        with pytest.raises(ValueError, match=rf"^{name}: epoch: expected int or null, got 'x' \(text\); meaning"):
            make(start, {"epoch": "x"})
