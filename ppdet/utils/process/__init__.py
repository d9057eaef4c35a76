"""The running process: signals, worker processes, and what must be set before Paddle is imported."""
