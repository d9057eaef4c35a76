"""The process that we run in: signals, forks, and what is set before Paddle loads."""
