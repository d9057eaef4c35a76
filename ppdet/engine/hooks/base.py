"""What a hook is."""


class Hook:
    """Base of all hooks; override what you need."""

    def before_train(self, trainer: object) -> None: ...

    def before_step(self, trainer: object) -> None: ...

    def after_step(self, trainer: object) -> None: ...

    def after_epoch(self, trainer: object) -> None: ...

    def on_stop(self, trainer: object) -> None:
        """The run was asked to end after the step just done."""

    def after_report(self, trainer: object, report: dict) -> None:
        """Figures of the steps since the last report are known: learning_rate, losses (means by name, NaN where no
        step gave a finite one), seconds_per_step, images_per_second (of all ranks), data_share (of the time, 0 to 1,
        spent waiting for data), max_mem_mib (see `peak_memory`)."""

    def after_evaluation(self, trainer: object, numbers: dict[str, float]) -> None:
        """On rank 0: COCO's twelve numbers of the weights after `trainer.iteration` steps."""

    def after_pseudo_labels(self, trainer: object, figures: dict[str, float], picture: object) -> None:
        """On rank 0: figures of the teacher's pseudo-labels after `trainer.iteration` steps, as PseudoLabelHook names
        them, and the picture of them, an array (H, W, 3) of uint8 RGB."""

    def close(self, trainer: object) -> None:
        """The run ends, in whatever way, perhaps before it began."""

    def after_train(self, trainer: object) -> None: ...

    def writes(self, trainer: object) -> list[str]:
        """Names of what this hook writes to the run's folder, or paths elsewhere; `--dry_run` lists them."""
        return []


def at_log_line(trainer: object, interval: int) -> bool:
    """Whether the log has a line after this step: the first of an epoch, every `interval` steps, and the last."""
    return interval == 1 or trainer.step % interval == 0 or trainer.step + 1 == trainer.steps_of_epoch
