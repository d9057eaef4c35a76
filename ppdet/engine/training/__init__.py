"""What happens within a training step and how long training lasts; the loop itself is in ppdet/engine/trainer.py."""
