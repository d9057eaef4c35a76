"""A setting that an error suggests can be set in the same configuration; suggestions do not lead in circles."""

from pathlib import Path

import pytest

from ppdet.core.workspace import load_config, merge_config

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = {path.stem: path for path in (ROOT / "configs").glob("*/**/*.yml") if "_base_" not in path.parts}
SCHEDULED = ("milestones=[1]", "gamma=0.5", "warmup_steps=10", "momentum=0.5", "lr=0.1", "batch_size=2")


@pytest.mark.parametrize("name", [name for name, path in SHIPPED.items() if path.parent.name != "datasets"])
def test_answers_lead_to_an_end_in_every_configuration(name):
    config = load_config(SHIPPED[name])
    for text in SCHEDULED:
        key, _, value = text.partition("=")
        for _ in range(2):
            try:
                merge_config(config, [f"{key}={value}"])
                break
            except ValueError as error:
                said = str(error)
            answer = said.partition(": use ")[2] or said.partition("; use ")[2]
            assert answer, said
            key = answer.split(",")[0].split(" (")[0]
            if "; LearningRate.schedulers only has " in answer:
                names = answer.partition(" only has ")[2].partition(":")[0].split(", ")
                listed = config.component("LearningRate").create("schedulers")
                assert names == [type(scheduler).__name__ for scheduler in listed]
                assert "PiecewiseDecay" not in names
                break
        else:
            raise AssertionError(f"{text}: {said}")


def test_answers_know_the_schedulers_of_the_configuration():
    shapes, supervised = load_config(SHIPPED["fcos_r18_fpn_shapes"]), load_config(SHIPPED["fcos_r18vd_bccd_sup010"])
    has = "LearningRate.schedulers only has CosineDecay, LinearWarmup: add PiecewiseDecay to that list"
    for config, text, said in (
        (shapes, "milestones=[1]", f"milestones: use milestones of PiecewiseDecay; {has}"),
        (
            shapes,
            "LearningRate.schedulers.0.milestones=[1]",
            "LearningRate.schedulers.0.milestones: CosineDecay has no parameter 'milestones'; use milestones of "
            f"PiecewiseDecay; {has}",
        ),
        (
            shapes,
            "LearningRate.schedulers.0.steps=5",
            "LearningRate.schedulers.0.steps: CosineDecay has no parameter 'steps'; LearningRate.schedulers.1, "
            "LinearWarmup, has it",
        ),
        (
            shapes,
            "LearningRate.schedulers.0.max_epoch=3",  # a misspelling, more than a name of another tool's
            "LearningRate.schedulers.0.max_epoch: CosineDecay has no parameter 'max_epoch'; did you mean 'max_epochs'?",
        ),
        (supervised, "warmup_steps=10", "warmup_steps: use LearningRate.schedulers.0.steps (or epochs)"),
        (
            supervised,
            "LearningRate.schedulers.1.steps=10",
            "LearningRate.schedulers.1.steps: LearningRate.schedulers is a list: expected an index from 0 to 0 "
            "(0: LinearWarmup), got '1'",
        ),
        (
            merge_config(shapes, {"LearningRate.schedulers": []}),
            "warmup=10",
            "warmup: use steps of LinearWarmup; LearningRate.schedulers is empty: add LinearWarmup to that list",
        ),
    ):
        with pytest.raises(ValueError) as error:
            merge_config(config, [text])
        assert str(error.value).startswith(f"merge_config: {said}")
