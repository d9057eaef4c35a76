"""A run is built, tried for a step and described, and leaves nothing behind."""

from pathlib import Path

import pytest

from ppdet.core.workspace import load_config
from ppdet.engine.hooks import Hook
from ppdet.engine.trainer import Trainer
from ppdet.engine.training.dry_run import dry_run


def files(folder: Path) -> set[Path]:
    return {path for path in folder.rglob("*") if path.is_file()}


def test_what_is_reported(tiny, tmp_path, log):
    before = files(tmp_path)
    options = ["epoch=6", "TrainReader.batch_size=1", "accumulate_steps=2", "snapshot_iters=3", "use_ema=true"]
    trainer = Trainer(load_config(tiny, options), evaluate=True, resume="auto")
    found = dry_run(trainer)
    assert files(tmp_path) == before and not (tmp_path / "output").exists()
    assert found["batch"]["image"] == [1, 3, 96, 128]
    assert found["batch"]["target_labels"] == [1, 12 * 16 + 6 * 8 + 3 * 4]
    assert found["maps"] == {
        "logits": [[1, 2, 12, 16], [1, 2, 6, 8], [1, 2, 3, 4]],
        "distances": [[1, 4, 12, 16], [1, 4, 6, 8], [1, 4, 3, 4]],
        "quality": [[1, 1, 12, 16], [1, 1, 6, 8], [1, 1, 3, 4]],
    }
    parameters = trainer.model.parameters()
    assert found["parameters"] == sum(p.size for p in parameters) > found["trained_parameters"] > 0
    assert (found["steps_per_epoch"], found["images_per_step"], found["steps_left"]) == (4, 2, 24)
    assert found["learning_rate"] == pytest.approx({"first": 0.001, "warmed_up": 0.01, "warm_up_steps": 2})
    assert found["step_seconds"] > 0 and found["epoch_seconds"] == pytest.approx(4 * found["step_seconds"])
    assert found["max_mem_mib"].keys() == {"host"} and 50 < found["max_mem_mib"]["host"] < 20_000
    # Weights and their average, a momentum for each trained weight: float32 all.
    least = 4 * (2 * found["parameters"] + found["trained_parameters"])
    assert least <= found["checkpoint_bytes"] < 1.01 * least
    assert [str(Path(path).relative_to(tmp_path / "output" / "tiny")) for path in found["writes"]] == [
        "run.json",
        "config.yml",
        "train.log",
        "bad_steps.jsonl (if steps are skipped)",
        "history.jsonl",
        "train_batch.jpg",
        "train_batch_2.jpg",
        "<0 to 4>.{pdparams,pdema,pdopt,json}",
        "snapshot_<step>.{pdparams,pdema,pdopt,json}",
        "model_final.{pdparams,pdema,pdopt,json}",
        "best_model.{pdparams,json}",
        "curves.png",
    ]
    for line in (
        "maps at stride 16: logits [1, 2, 6, 8], distances [1, 4, 6, 8], quality [1, 1, 6, 8]",
        "epoch: 4 steps of 2 images on 1 device, about 0:00:",
        "learning rate: 0.001 at the first step, 0.01 from step 3 on",
        "resume: no, the run starts from the beginning",
        "dry run: nothing was written",
    ):
        assert line in log.text


def test_the_list_is_what_a_run_then_writes(tiny, tmp_path):
    """Of three epochs, whose checkpoints all stay."""
    options = ["epoch=3", "use_ema=true"]
    listed = dry_run(Trainer(load_config(tiny, options), evaluate=True))["writes"]
    expected = set()
    for name in (Path(path).name for path in listed if "(if" not in path):
        stem, _, suffixes = name.partition(".{")
        expected |= {f"{stem}.{suffix}" for suffix in suffixes.rstrip("}").split(",")} if suffixes else {name}
    Trainer(load_config(tiny, options), evaluate=True).train()
    assert {path.name for path in files(tmp_path / "output")} == expected


def test_resuming_is_described_and_the_checkpoint_stays(tiny, tmp_path):
    class Stop(Hook):
        def before_step(self, trainer):
            if trainer.iteration == 6:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Trainer(load_config(tiny, ["snapshot_iters=3"]), hooks=[Stop()]).train()
    contents = {path: path.read_bytes() for path in files(tmp_path)}
    found = dry_run(Trainer(load_config(tiny, ["snapshot_iters=3"]), resume="auto"))
    assert found["resume"].endswith("tiny/snapshot_6: 1 epoch and 2 steps of the next are done")
    assert (found["steps_left"], found["learning_rate"]["first"]) == (2, 0.01)
    assert {path: path.read_bytes() for path in files(tmp_path)} == contents


def test_bad_gradients_are_told_and_not_written(tiny, tmp_path, log):
    found = dry_run(Trainer(load_config(tiny, ["LearningRate.base_lr=1e20", "max_bad_steps=1"])))
    assert found["skipped_steps"] == 1
    assert "1 of the 2 steps had gradients or running statistics that are infinite or not numbers" in log.text
    assert not (tmp_path / "output").exists()


def test_a_ratio_from_the_data_is_known(tiny_semi):
    """Twice the share of the positive locations of the batch, as in the first step of a run."""
    trainer = Trainer(load_config(tiny_semi, ["DenseTeacher.train_cfg.ratio=auto", "semi_start_iters=0"]))
    found = dry_run(trainer)
    (batch,) = trainer.batches
    labels = batch["target_labels"].numpy()
    assert found["losses"]["ratio"] == pytest.approx(2 * (labels > 0).mean(), rel=1e-6)


def test_of_random_sizes_the_largest_is_measured(tiny, log):
    """Memory for a smaller size, which the first step may draw, would not do for the run."""
    resize = "  - BatchRandomResize: {target_size: [32, 64, 160, 96], keep_ratio: false}\n"
    first = "  - PadBatch: {pad_to_stride: 32}\n"
    tiny.write_text(tiny.read_text().replace(first, resize + first, 1))
    found = dry_run(Trainer(load_config(tiny)))
    assert found["batch"]["image"] == [2, 3, 160, 160]
    assert "sizes are random: memory and time are those of the largest ones" in log.messages
