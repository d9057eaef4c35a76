"""Time that the trainer adds to a bare training step: seeding, the guard, hooks, and checking for signals.

The data are those of the configuration; every step uses its first batch. Each addition is timed inside whole steps. The
bare step (forward, backward, optimizer, schedule) takes turns with the trainer's.
"""

import collections
import functools
import tempfile
import time

from common import ROOT, make_parser, medians, report

EXAMPLES = """examples:
  python dataset/shapes/generate.py && python benchmarks/trainer.py
  python benchmarks/trainer.py --repeat 20 -o amp=true
  python benchmarks/trainer.py -c configs/fcos/fcos_r18vd_fpn_bccd.yml
"""


def main() -> None:
    parser = make_parser(__doc__, EXAMPLES)
    parser.set_defaults(repeat=20)
    parser.add_argument(
        "-c", "--config", default=str(ROOT / "configs" / "fcos" / "fcos_r18_fpn_shapes.yml"), metavar="FILE"
    )
    parser.add_argument("-o", "--opt", nargs="+", default=[], metavar="KEY=VALUE", help="override the configuration")
    arguments = parser.parse_args()

    from ppdet.utils.process.paddle_setup import load_paddle

    load_paddle(announce=False)
    from ppdet.core.workspace import load_config
    from ppdet.engine import trainer as module

    with tempfile.TemporaryDirectory() as folder:
        options = ["pretrain_weights=null", "worker_num=0", f"save_dir={folder}", "use_ema=false", *arguments.opt]
        trainer = module.Trainer(load_config(arguments.config, options))
        trainer.model.train()
        trainer.batches = [next(iter(trainer.reader))]
        trainer.call_hooks("before_train")
        parts: dict[str, float] = collections.Counter()

        def timed(name: str, function: object) -> object:
            @functools.wraps(function)
            def run(*values: object) -> object:
                start = time.perf_counter()
                result = function(*values)
                parts[name] += time.perf_counter() - start
                return result

            return run

        def bare() -> None:
            with trainer.precision.context():
                trainer.parallel(trainer.batches[0])["loss"].backward()
            trainer.optimizer.step()
            trainer.optimizer.clear_grad()
            trainer.scheduler.step()

        def whole() -> None:
            trainer.step = trainer.iteration % trainer.steps_per_epoch
            trainer.call_hooks("before_step")
            trainer.train_step()
            trainer.iteration += 1
            trainer.guard.read_pending_checks()
            trainer.call_hooks("after_step")
            trainer.stop_if_asked()

        # The guard's update is not timed: it contains the optimizer's step, which the bare step has too.
        trainer.precision.unscale = timed("guard: check that all gradients are finite", trainer.precision.unscale)
        trainer.guard.before_forward = timed("guard: copy running statistics", trainer.guard.before_forward)
        module.seed_generators = timed("seeding", module.seed_generators)
        trainer.call_hooks = timed("hooks", trainer.call_hooks)
        trainer.stop_if_asked = timed("check for signals", trainer.stop_if_asked)
        whole()
        parts.clear()
        seconds = medians({"bare": bare, "trainer": whole}, arguments.repeat, warm_up=0)
    step, runs = seconds["bare"], arguments.repeat
    rows = [[name, 1e3 * value / runs, value / runs / step] for name, value in parts.items()]
    rows.append(["sum of these parts", sum(row[1] for row in rows), sum(row[2] for row in rows)])
    rows += [["bare step", 1e3 * step, 1.0], ["trainer's step", 1e3 * seconds["trainer"], seconds["trainer"] / step]]
    images = "x".join(str(size) for size in trainer.batches[0]["image"].shape)
    title = f"What the trainer adds to a step, {trainer.cfg.name}, {images}"
    report(title, ["part", "ms", "share of a bare step"], rows, arguments.json)


if __name__ == "__main__":
    main()
