"""Train a detector."""

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from ppdet.core.cli import add_config_arguments, add_device_argument, flag, make_parser, one_line_errors, run

EXAMPLES = """examples:
  python tools/train.py -c configs/fcos/fcos_r50_fpn_1x_coco.yml --eval
  python tools/train.py -c configs/fcos/fcos_r18vd_fpn_bccd.yml --eval -o epoch=4 TrainReader.batch_size=2
  python tools/train.py -c configs/fcos/fcos_r18vd_fpn_bccd.yml --eval -r auto    # begin, or go on where it stopped
  python tools/train.py -c configs/fcos/fcos_r18vd_fpn_bccd.yml -r output/fcos_r18vd_fpn_bccd/3
  python tools/train.py -c configs/fcos/fcos_r18vd_fpn_bccd.yml --eval --use_vdl true --vdl_log_dir vdl/bccd
  python tools/train.py -c configs/fcos/fcos_r18vd_fpn_bccd.yml --name large_batch -o TrainReader.batch_size=8
  python tools/train.py -c configs/fcos/fcos_r18vd_fpn_bccd.yml --dry_run
  python tools/train.py -c configs/fcos/fcos_r18vd_fpn_bccd.yml --profiler_options "batch_range=[10,20];state=CPU"
  python -m paddle.distributed.launch --gpus 0,1,2,3 tools/train.py -c configs/fcos/fcos_r50_fpn_1x_coco.yml --eval
  python -m paddle.distributed.launch --nproc_per_node 2 tools/train.py -c FILE --device cpu
"""


def parse_arguments() -> argparse.Namespace:
    parser = make_parser(__doc__, EXAMPLES)
    add_config_arguments(parser)
    add_device_argument(parser)
    parser.add_argument("--name", help="of the run, and its folder (-o run_name=NAME; default: that of the YAML file)")
    parser.add_argument("--eval", action="store_true", help="evaluate every checkpoint and keep the best one")
    parser.add_argument(
        "-r",
        "--resume",
        metavar="CKPT",
        help="go on from this checkpoint, e.g. output/NAME/3; auto: from the newest whole one of the run in its "
        "folder, or from the beginning if there is none",
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="remove an earlier run in the run's folder (default: it is moved aside, to output/NAME.1, .2, …)",
    )
    parser.add_argument(
        "--amp", action="store_true", help="mixed precision (-o amp=true); on a CPU bfloat16, if it has that"
    )
    parser.add_argument(
        "--dry_run",
        action="store_true",
        help="build everything, make one step, report shapes, memory, time and what would be written; write nothing",
    )
    parser.add_argument(
        "--profiler_options",
        metavar="OPTIONS",
        help="trace some steps: batch_range=[10,20];state=CPU|GPU|All;sorted_key=total|max|min|ave;"
        "tracer_option=Default|OpDetail|AllOpDetail;profile_path=FILE;exit_on_finished=false;timer_only=false",
    )
    parser.add_argument("--use_vdl", type=flag, metavar="BOOL", help="write VisualDL logs (-o use_vdl=true)")
    parser.add_argument("--vdl_log_dir", metavar="DIR", help="folder of VisualDL logs (default: output/NAME/vdl)")
    parser.add_argument(
        "--fleet", action="store_true", help="several devices train through paddle.distributed.fleet (-o fleet=true)"
    )
    arguments = parser.parse_args()
    if arguments.overwrite and arguments.resume == "auto":
        parser.error("--resume auto goes on with the run that is there: leave --overwrite out")
    return arguments


def options(arguments: argparse.Namespace) -> list[str]:
    """What the command line says, as overrides of the configuration."""
    given = {name: getattr(arguments, name) or None for name in ("amp", "fleet")}
    given.update(use_vdl=arguments.use_vdl, vdl_log_dir=arguments.vdl_log_dir, run_name=arguments.name)
    return [*arguments.opt, *(f"{key}={json.dumps(value)}" for key, value in given.items() if value is not None)]


def main() -> None:
    arguments = parse_arguments()
    with one_line_errors():
        from ppdet.engine.runtime import load_paddle, set_device

        load_paddle()
        from ppdet.core.workspace import load_config
        from ppdet.engine.distributed import collectives
        from ppdet.engine.hooks.profiler import ProfilerHook, parse_options
        from ppdet.engine.runs.run_start import require_no_other
        from ppdet.engine.trainer import Trainer
        from ppdet.engine.training.dry_run import dry_run
        from ppdet.utils.disk.lock import LockedError

        cfg = load_config(arguments.config, options(arguments))
        hooks = []
        if arguments.profiler_options is not None:
            hooks.append(ProfilerHook(parse_options(arguments.profiler_options)))
        set_device(cfg)
        with collectives.joined(fleet=cfg["fleet"], find_unused=cfg["find_unused_parameters"]):
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
                trainer.train()


if __name__ == "__main__":
    run(main, "; a training run goes on from its last checkpoint with -r auto")
