"""A Paddle profiler trace of some training steps: `--profiler_options`."""

import contextlib
import io
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paddle import profiler

from ppdet.core.command_line import flag
from ppdet.engine.distributed import collectives
from ppdet.engine.hooks.base import Hook
from ppdet.utils import device
from ppdet.utils.errors import ConfigError, nearest
from ppdet.utils.logger import get_logger

if TYPE_CHECKING:
    from ppdet.engine.trainer import Trainer

logger = get_logger(__name__)
VIEWS = [profiler.SummaryView.OverView, profiler.SummaryView.ModelView, profiler.SummaryView.OperatorView]
# Patterns of the options that are not true or false, and how errors describe them.
FORMS = {
    "batch_range": (r"\[?\s*(\d+)\s*,\s*(\d+)\s*\]?", "two steps, the second larger, such as [10,20]"),
    "state": ("CPU|GPU|All", "one of CPU, GPU, All"),
    "sorted_key": ("total|max|min|ave", "one of total, max, min, ave"),
    "tracer_option": ("Default|OpDetail|AllOpDetail", "one of Default, OpDetail, AllOpDetail"),
    "profile_path": (".+", "the path of a file"),
}


class StopAfterProfile(SystemExit):
    """Ends the process after the profiled steps, because of `exit_on_finished`."""

    together = True  # all ranks end at the same step


@dataclass(frozen=True)
class ProfilerOptions:
    """Options of --profiler_options, with PaddleDetection's names."""

    batch_range: tuple[int, int] = (10, 20)  # first step of this process, from 0, and the step after the last
    state: str = "All"  # CPU, GPU (any device that is not the CPU) or All
    sorted_key: str = "total"  # order of the summary: by total, max, min or ave (average) time
    # OpDetail adds the kernels of every operation to the summary; AllOpDetail also adds input shapes to the trace.
    tracer_option: str = "Default"
    profile_path: Path | None = None  # file of the trace; None: profiler/trace.json in the run's folder
    exit_on_finished: bool = False  # end the process after the last profiled step
    timer_only: bool = False  # measure speed, and write no trace


def parse_options(text: str) -> ProfilerOptions:
    """Read options as PaddleDetection writes them, such as "batch_range=[10,20];state=GPU".

    Raises:
        ConfigError: an option or its value is unknown.
    """
    values: dict[str, Any] = {}
    for item in filter(None, (item.strip() for item in text.split(";"))):
        key, equals, value = (part.strip() for part in item.partition("="))
        known = ProfilerOptions.__dataclass_fields__
        if not equals or key not in known:
            raise ConfigError(
                f"--profiler_options: {item!r}: expected option=value with {', '.join(known)}{nearest(key, known)}"
            )
        values[key] = _parse_value(key, value)
    return ProfilerOptions(**values)


def _parse_value(key: str, value: str) -> Any:
    pattern, expected = FORMS.get(key, ("true|false|1|0", "true or false"))
    match = re.fullmatch(pattern, value, 0 if key in FORMS else re.IGNORECASE)
    steps = tuple(map(int, match.groups())) if match else ()
    if not match or (steps and steps[0] >= steps[1]):
        raise ConfigError(f"--profiler_options: {key}: expected {expected}, got {value!r}")
    if key == "profile_path":
        return Path(value)
    return steps or (value if key in FORMS else flag(value))


class ProfilerHook(Hook):
    """Records a trace of some steps for chrome://tracing or Perfetto, and logs a summary."""

    def __init__(self, options: ProfilerOptions) -> None:
        self.options = options
        self.steps = 0  # of this process
        self.profiler: profiler.Profiler | None = None  # while it records

    def path(self, trainer: "Trainer") -> Path:
        path = self.options.profile_path or trainer.output / "profiler" / "trace.json"
        rank = collectives.rank()
        return path.with_name(f"{path.stem}_rank{rank}{path.suffix}") if collectives.world_size() > 1 else path

    def writes(self, trainer: "Trainer") -> list[str]:
        return [] if self.options.timer_only else [str(self.path(trainer).absolute())]

    def before_train(self, trainer: "Trainer") -> None:
        options = self.options
        if not (options.timer_only or device.can_be_profiled()):
            raise ConfigError(
                "--profiler_options: this build of Paddle is for GPUs and there is none: its profiler cannot record; "
                "give timer_only=True, or install paddlepaddle"
            )
        self.profiler = profiler.Profiler(
            targets=targets(options.state),
            scheduler=options.batch_range,
            on_trace_ready=lambda done: self.write(trainer, done),
            record_shapes=options.tracer_option == "AllOpDetail",
            timer_only=options.timer_only,
        )
        self.profiler.start()

    def after_step(self, trainer: "Trainer") -> None:
        if self.profiler is None:
            return
        self.steps += 1
        first, end = self.options.batch_range
        self.profiler.step(trainer.images_per_step)
        if self.options.timer_only and self.steps == first:
            self.profiler.step_info("images")  # averages start here
        if self.steps == end:
            self.stop()
            if self.options.exit_on_finished:
                logger.info("profiled: ending because of exit_on_finished")
                collectives.wait_for_all()
                raise StopAfterProfile(0)

    def on_stop(self, trainer: "Trainer") -> None:
        self.after_train(trainer)

    def after_train(self, trainer: "Trainer") -> None:
        if self.profiler is not None:
            if self.steps <= self.options.batch_range[0]:
                logger.warning(
                    "nothing profiled: the run had %d steps, batch_range starts at %d",
                    *(self.steps, self.options.batch_range[0]),
                )
            self.stop()

    def stop(self) -> None:
        """End the recording, and write it."""
        assert self.profiler is not None
        if self.options.timer_only:
            logger.info("profiled steps:%s", self.profiler.step_info("images"))
        with printed_lines_to_log():
            self.profiler.stop()
        self.profiler = None

    def write(self, trainer: "Trainer", done: profiler.Profiler) -> None:
        """Write the trace of a profiler that has stopped, and log its summary."""
        if self.steps <= self.options.batch_range[0]:
            return
        path = self.path(trainer)
        path.parent.mkdir(parents=True, exist_ok=True)
        done.export(str(path), format="json")
        logger.info("profiler trace: %s (open it in chrome://tracing or ui.perfetto.dev)", path)
        # Paddle calls every device a GPU here.
        kind = "GPU" if not device.is_cpu() and self.options.state != "CPU" else "CPU"
        names = {"total": "Total", "max": "Max", "min": "Min", "ave": "Avg"}
        order = getattr(profiler.SortedKeys, kind + names[self.options.sorted_key])
        with printed_lines_to_log():
            done.summary(sorted_by=order, op_detail=self.options.tracer_option != "Default", views=VIEWS)


def targets(state: str) -> list[profiler.ProfilerTarget] | None:
    """Return Paddle's profiler targets for the option `state`; None means all. GPU means a device of any type."""
    target = profiler.ProfilerTarget
    if state == "All":
        return None
    if state == "GPU" and not device.is_cpu():
        return [{"gpu": target.GPU, "xpu": target.XPU}.get(device.device_type(), target.CUSTOM_DEVICE)]
    if state == "GPU":
        logger.warning("--profiler_options: state is GPU, but this run has none: the CPU is profiled")
    return [target.CPU]


@contextlib.contextmanager
def printed_lines_to_log() -> Iterator[None]:
    """Log Paddle's prints within the block, so that only rank 0 shows them."""
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        yield
    for line in filter(str.strip, printed.getvalue().splitlines()):
        logger.info("%s", line.rstrip())
