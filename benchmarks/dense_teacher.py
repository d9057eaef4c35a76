"""Time of a step of semi-supervised training, and of its parts, measured alone. The parts should add up to the step.

The data are those of the configuration; every step uses its first batch. The parts are a supervised step on the labeled
views (forward, loss, backward, optimizer), the teacher's forward pass, and the student's forward pass, loss and
backward pass on the unlabeled images.
"""

import tempfile

from common import ROOT, make_parser, medians, report

CONFIG = ROOT / "configs" / "semi_det" / "denseteacher" / "denseteacher_fcos_r18vd_bccd_semi010.yml"
EXAMPLES = """examples:
  python benchmarks/dense_teacher.py
  python benchmarks/dense_teacher.py --repeat 3 -o amp=true
"""


def main() -> None:
    parser = make_parser(__doc__, EXAMPLES)
    parser.add_argument("-c", "--config", default=str(CONFIG), metavar="FILE", help="YAML file (default: BCCD's)")
    parser.add_argument("-o", "--opt", nargs="+", default=[], metavar="KEY=VALUE", help="override the configuration")
    arguments = parser.parse_args()

    from ppdet.utils.process.paddle_setup import load_paddle

    load_paddle(announce=False)
    from ppdet.core.workspace import load_config
    from ppdet.engine.trainer import Trainer
    from ppdet.modeling.architectures.dense_teacher import pixel_maps

    with tempfile.TemporaryDirectory() as folder:
        options = ["pretrain_weights=null", "worker_num=0", f"save_dir={folder}", "amp=false", *arguments.opt]
        trainer = Trainer(load_config(arguments.config, options))
        trainer.model.train()
        trainer.batches = [next(iter(trainer.reader))]
        supervised = {name: value for name, value in trainer.batches[0].items() if name != "unlabeled"}
        strong, weak = trainer.batches[0]["unlabeled"]["image"].chunk(2)
        method = trainer.method
        trainer.iteration = method.complete_from
        with trainer.precision.context(), trainer.precision.autocast():
            labels = method.layer.pseudo_labels(weak)

        def supervised_step() -> None:
            with trainer.precision.context():
                with trainer.precision.autocast():
                    loss = trainer.model(supervised)["loss"]
                loss.backward()
            update()

        def teacher_forward() -> None:
            with trainer.precision.context(), trainer.precision.autocast():
                method.layer.pseudo_labels(weak)

        def student() -> None:
            with trainer.precision.context():
                with trainer.precision.autocast():
                    loss = method.layer.loss(pixel_maps(trainer.model, strong), labels)["loss"]
                loss.backward()
            trainer.optimizer.clear_grad()

        def update() -> None:
            trainer.optimizer.step()
            trainer.optimizer.clear_grad()
            trainer.scheduler.step()

        stages = {
            "supervised step": supervised_step,
            "teacher, forward": teacher_forward,
            "student, forward and backward": student,
            "the whole step": trainer.train_step,
        }
        seconds = medians(stages, arguments.repeat)
    whole = seconds.pop("the whole step")
    parts = sum(seconds.values())
    rows = [[name, 1e3 * value, value / parts] for name, value in seconds.items()]
    rows += [["sum of the parts", 1e3 * parts, 1.0], ["the whole step", 1e3 * whole, whole / parts]]
    sizes = [tuple(supervised["image"].shape), tuple(strong.shape)]
    title = f"A step of {trainer.cfg.name}: {sizes[0]} labeled views, {sizes[1]} unlabeled images"
    report(title, ["part", "ms", "share of the parts' sum"], rows, arguments.json)


if __name__ == "__main__":
    main()
