"""The parts of a training step and the length of training; the loop itself is in ppdet/engine/trainer.py."""
