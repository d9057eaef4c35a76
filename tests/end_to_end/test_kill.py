"""The short form of `make soak`: a run is killed three times, its last checkpoint damaged, and ends as if untouched."""

import random

from killing import TrainingRun, damage, differences, first_step, write_config


def test_killed_and_damaged_run_ends_as_the_unbroken_one(tmp_path):
    seed = random.SystemRandom().randrange(10**6)
    print(f"seed {seed}")  # shown when the test fails
    rng = random.Random(seed)
    config = write_config(tmp_path, images=8, epochs=4)
    unbroken = TrainingRun(config, tmp_path / "unbroken")
    unbroken.finish()
    killed = TrainingRun(config, tmp_path / "killed")
    killed.kill(rng.uniform(0, 2), victim="trainer")
    # Then in the second epoch, and in the third: there are two checkpoints when the last of them is damaged.
    for since in (r"Epoch: \[[234]/4\]", r"Epoch: \[[34]/4\]"):
        assert killed.kill(rng.uniform(0, 0.5), victim="trainer", since=since)
    (_, newest, _), (before, *_) = killed.checkpoints()[:2]
    path = newest.with_name(newest.name + rng.choice([".pdparams", ".pdema", ".pdopt", ".json"]))
    place = damage(path, "flipped", rng)
    log = killed.finish()
    assert f"skipping damaged checkpoint: {path}: damaged" in log, (path, place)
    assert first_step(log) == before
    assert differences(unbroken, killed) == []
