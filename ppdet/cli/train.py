"""Train the detector that a configuration describes.

The run is written to output/NAME: checkpoints, model_final, best_model (with --eval), config.yml, train.log,
history.jsonl and pictures of training batches. The other commands take this folder.

examples:
  {program} -c fcos_r50_fpn_1x_coco --eval
  {program} -c fcos_r18_fpn_shapes --eval -o epoch=4 TrainReader.batch_size=2
  {program} -c fcos_r18_fpn_shapes --eval -r auto    # start the run, or continue it where it stopped
  {program} output/fcos_r18_fpn_shapes --eval -r auto     # the same with the settings of the run in the folder
  {program} -c fcos_r18_fpn_shapes -r output/fcos_r18_fpn_shapes/3
  {program} -c fcos_r18_fpn_shapes --eval --use_vdl true --vdl_log_dir vdl/shapes
  {program} -c fcos_r18_fpn_shapes --name large_batch -o TrainReader.batch_size=8
  {program} -c fcos_r18_fpn_shapes --dry_run
  {program} -c fcos_r18_fpn_shapes --profiler_options "batch_range=[10,20];state=CPU"
several devices, or several processes on the CPU:
  python -m paddle.distributed.launch --gpus 0,1,2,3 tools/train.py -c fcos_r50_fpn_1x_coco --eval
  python -m paddle.distributed.launch --gpus 0,1,2,3 ppdet train -c fcos_r50_fpn_1x_coco --eval
  python -m paddle.distributed.launch --nproc_per_node 2 tools/train.py -c FILE --device cpu
"""

import argparse
import json
import shlex
import sys
from collections.abc import Sequence

from ppdet.cli.arguments import (
    add_amp_argument,
    add_device_argument,
    add_run_arguments,
    load_libraries,
    require_run,
)
from ppdet.core.command_line import called_as, flag, make_parser, one_line_errors
from ppdet.utils.logger import get_logger
from ppdet.utils.process.importing import without_garbage_collection


def parse_arguments(argv: Sequence[str] | None = None, program: str | None = None) -> argparse.Namespace:
    parser = make_parser(__doc__, program)
    add_run_arguments(
        parser,
        "folder of an earlier run, such as output/NAME: train with its settings, in the same folder; -r auto continues "
        "that run; replaces -c",
    )
    add_device_argument(parser)
    parser.add_argument(
        "--name",
        help="name of the run and of its folder below output/ (the same as -o run_name=NAME; default: the name of the "
        "YAML file)",
    )
    parser.add_argument("--eval", action="store_true", help="evaluate every checkpoint and keep the best one")
    parser.add_argument(
        "-r",
        "--resume",
        metavar="CKPT",
        help="continue from this checkpoint, such as output/NAME/3; auto: from the newest complete one in the folder "
        "of the run, or from the beginning if the folder has none",
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="remove an earlier run from the folder (default: move it to output/NAME.1, .2, …)",
    )
    add_amp_argument(parser, "amp")
    parser.add_argument(
        "--dry_run",
        action="store_true",
        help="build everything, run one step, report shapes, memory, time and the files of the run, and write nothing",
    )
    parser.add_argument(
        "--profiler_options",
        metavar="OPTIONS",
        help="trace some steps: batch_range=[10,20];state=CPU|GPU|All;sorted_key=total|max|min|ave;"
        "tracer_option=Default|OpDetail|AllOpDetail;profile_path=FILE;exit_on_finished=false;timer_only=false",
    )
    parser.add_argument(
        "--use_vdl", type=flag, metavar="BOOL", help="write logs for VisualDL (the same as -o use_vdl=true)"
    )
    parser.add_argument("--vdl_log_dir", metavar="DIR", help="folder of these logs (default: output/NAME/vdl)")
    parser.add_argument(
        "--fleet",
        action="store_true",
        help="accepted because PaddleDetection's commands have it; changes nothing",
    )
    arguments = parser.parse_args(argv)
    require_run(parser, arguments)
    if arguments.overwrite and arguments.resume == "auto":
        parser.error("--resume auto continues the run in the folder: leave --overwrite out")
    return arguments


def overrides(arguments: argparse.Namespace) -> list[str]:
    """Return the options as overrides of the configuration, KEY=VALUE."""
    options = {
        "use_vdl": arguments.use_vdl,
        "vdl_log_dir": arguments.vdl_log_dir,
        "run_name": arguments.name,
    }
    return [*arguments.opt, *(f"{key}={json.dumps(value)}" for key, value in options.items() if value is not None)]


def command_to_continue(program: str | None, argv: Sequence[str]) -> list[str]:
    """The words of a command that continues the run of this one."""
    words: list[str] = []
    for word in argv:
        if words[-1:] in (["-r"], ["--resume"]):
            words.pop()
        elif word != "--overwrite" and not word.startswith(("--resume=", "-r=")):
            words.append(word)
    return [*(program or called_as()).split(), *words, "-r", "auto"]


def main(argv: Sequence[str] | None = None, program: str | None = None) -> None:
    arguments = parse_arguments(argv, program)
    with one_line_errors():
        with without_garbage_collection():
            load_libraries(arguments)
            from ppdet.engine.device_choice import set_device
            from ppdet.engine.distributed import collectives
            from ppdet.engine.hooks.profiler import ProfilerHook, parse_options
            from ppdet.engine.runs.run_start import require_no_other
            from ppdet.engine.runs.trained import training_config
            from ppdet.engine.trainer import Trainer
            from ppdet.engine.training.dry_run import dry_run
            from ppdet.utils.disk.lock import LockedError
            from ppdet.utils.process.stop import Stopped

        cfg = training_config(arguments, overrides(arguments))
        hooks = []
        if arguments.profiler_options is not None:
            hooks.append(ProfilerHook(parse_options(arguments.profiler_options)))
        set_device(cfg)
        with collectives.joined():
            if not arguments.dry_run:
                collectives.from_rank_0(lambda: require_no_other(cfg), LockedError)
            trainer = Trainer(
                cfg,
                evaluate=arguments.eval,
                resume=arguments.resume,
                overwrite=arguments.overwrite,
                hooks=hooks,
            )
            if arguments.dry_run:
                dry_run(trainer)
            else:
                try:
                    trainer.train()
                except Stopped:
                    if collectives.world_size() == 1:
                        words = command_to_continue(program, sys.argv[1:] if argv is None else argv)
                        get_logger(__name__).info("continue with: %s", shlex.join(words))
                    raise
                if arguments.eval:
                    run = shlex.quote(str(trainer.output))
                    get_logger(__name__).info("next: ppdet eval %s --report %s/report", run, run)
