"""What a hook is."""


class Hook:
    """Base of all hooks; override what you need."""

    def before_train(self, trainer: object) -> None: ...

    def before_step(self, trainer: object) -> None: ...

    def after_step(self, trainer: object) -> None: ...

    def after_epoch(self, trainer: object) -> None: ...

    def on_stop(self, trainer: object) -> None:
        """The run was asked to end after the step just done."""

    def after_train(self, trainer: object) -> None: ...


def at_log_line(trainer: object, interval: int) -> bool:
    """Whether the log has a line after this step: the first of an epoch, every `interval` steps, and the last."""
    return interval == 1 or trainer.step % interval == 0 or trainer.step + 1 == trainer.steps_per_epoch
