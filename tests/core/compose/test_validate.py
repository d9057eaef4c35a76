"""Every mistake is one line: file:line, dotted key, what was expected, the nearest name."""

import pytest

from ppdet.utils.errors import ConfigError, UserError

OWN = "; a component of your own needs --import FILE (docs/EXTENDING.md)"


def message(load, *arguments):
    with pytest.raises(ConfigError) as error:
        load(*arguments)
    assert "\n" not in str(error.value)
    assert isinstance(error.value, UserError)
    return str(error.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # names
        (
            "ToyHed: {}",
            "x.yml:1: ToyHed: neither a component nor a global setting; did you mean 'ToyHead'?" + OWN,
        ),
        (
            "toyhead: {}",
            "x.yml:1: toyhead: neither a component nor a global setting; did you mean 'ToyHead'?",
        ),
        (
            "log_itr: 1",
            "x.yml:1: log_itr: neither a component nor a global setting; did you mean 'log_iter'?",
        ),
        (
            "zzzzzz: 1",
            "x.yml:1: zzzzzz: neither a component nor a global setting; names of your own start with x_",
        ),
        ("export: {nsm: true}", "x.yml:1: export.nsm: no such setting; did you mean 'nms'?"),
        (
            "architecture: ToyDetectr",
            "x.yml:1: architecture: there is no component 'ToyDetectr'; did you mean 'ToyDetector'?" + OWN,
        ),
        (
            "ToyBackbone:\n  dept: 18",
            "x.yml:2: ToyBackbone.dept: ToyBackbone has no parameter 'dept'; did you mean 'depth'?",
        ),
        ("ToyFlip:\n  zzz: 18", "x.yml:2: ToyFlip.zzz: ToyFlip has no parameter 'zzz'; it takes prob"),
        (
            "DenseTeacher:\n  train_cfg:\n    rato: 0.02",
            "x.yml:3: DenseTeacher.train_cfg.rato: no such setting; did you mean 'ratio'?",
        ),
        (
            "DenseTeacher: {train_cfg: {loss_weight: {distill_loss_bx: 1}}}",
            "x.yml:1: DenseTeacher.train_cfg.loss_weight.distill_loss_bx: no such setting; "
            "did you mean 'distill_loss_box'?",
        ),
        # names of injected components, in every spelling
        (
            "ToyHead:\n  loss: ToyLos",
            "x.yml:2: ToyHead.loss: there is no component 'ToyLos'; did you mean 'ToyLoss'?" + OWN,
        ),
        (
            "ToyHead:\n  loss:\n    name: ToyLos",
            "x.yml:3: ToyHead.loss.name: there is no component 'ToyLos'; did you mean 'ToyLoss'?" + OWN,
        ),
        (
            "ToyHead:\n  loss:\n    ToyLos: {}",
            "x.yml:2: ToyHead.loss: there is no component 'ToyLos'; did you mean 'ToyLoss'?" + OWN,
        ),
        (
            "ToyHead: {nms: {a: 1, b: 2}}",
            "x.yml:1: ToyHead.nms: expected a component: add `name: ...` to this mapping",
        ),
        (
            "ToyHead: {nms: !ToyFlip {name: ToyLoss}}",
            "x.yml:1: ToyHead.nms.name: !ToyFlip already names the component",
        ),
        (
            "ToyHead: {nms: {name: 3}}",
            "x.yml:1: ToyHead.nms.name: expected the name of a component, got 3 (int)",
        ),
        ("ToyHead: {nms: 3}", "x.yml:1: ToyHead.nms: expected the name of a component, got 3 (int)"),
        (
            "ToyReader:\n  transforms:\n  - ToyFlip: {prb: 1}",
            "x.yml:3: ToyReader.transforms.0.prb: ToyFlip has no parameter 'prb'; did you mean 'prob'? "
            "(probability of a flip)",
        ),
        (
            "ToyReader:\n  transforms:\n  - ToyFlp:",
            "x.yml:3: ToyReader.transforms.0: there is no component 'ToyFlp'; did you mean 'ToyFlip'?" + OWN,
        ),
        (
            "TrainDataset: !ToyDataSet\n  anno_pat: a",
            "x.yml:2: TrainDataset.anno_pat: ToyDataSet has no parameter 'anno_pat'; did you mean 'anno_path'?",
        ),
        (
            "EvalDataset: {name: ToyDataset}",
            "x.yml:1: EvalDataset.name: there is no component 'ToyDataset'; did you mean 'ToyDataSet'?" + OWN,
        ),
        (
            "TestDataset: {dataset_dir: a}",
            "x.yml:1: TestDataset: expected a component: add `name: ...` to this mapping",
        ),
        # forms
        ("ToyHead: {loss: }", "x.yml:1: ToyHead.loss: expected a component, got null"),
        ("ToyHead: {loss: [ToyLoss]}", "x.yml:1: ToyHead.loss: expected one component, got a list"),
        (
            "ToyReader: {transforms: ToyFlip}",
            "x.yml:1: ToyReader.transforms: expected a list of components, got 'ToyFlip' (text)",
        ),
        ("ToyHead: 3", "x.yml:1: ToyHead: expected a mapping of the parameters of ToyHead"),
        ("ToyHead: !ToyLoss {}", "x.yml:1: ToyHead: expected a mapping of the parameters of ToyHead"),
        (
            "ToyBackbone: {depth: !ToyFlip {}}",
            "x.yml:1: ToyBackbone.depth: !ToyFlip names a component, which is not allowed here: expected int",
        ),
        (
            "ToyHead: {options: {a: [!ToyFlip {}]}}",
            "x.yml:1: ToyHead.options: !ToyFlip names a component, which is not allowed here: expected mapping or null",
        ),
        # types
        ('num_classes: "80"', "x.yml:1: num_classes: expected int, got '80' (text)"),
        ("num_classes: true", "x.yml:1: num_classes: expected int, got True (true/false)"),
        ("num_classes: 80.0", "x.yml:1: num_classes: expected int, got 80.0 (float)"),
        ("num_classes:", "x.yml:1: num_classes: expected int, got null"),
        ("export: 3", "x.yml:1: export: expected mapping of text to any value, got 3 (int)"),
        ("export: {nms: 1}", "x.yml:1: export.nms: expected true or false, got 1 (int)"),
        (
            "DenseTeacher: {train_cfg: {ratio: much}}",
            "x.yml:1: DenseTeacher.train_cfg.ratio: expected float or 'auto', got 'much' (text)",
        ),
        (
            "DenseTeacher:\n  train_cfg:\n    gamma: 2.0\n    sup_weight: -1",
            "x.yml:4: DenseTeacher.train_cfg.sup_weight: expected at least 0, got -1",
        ),
        (
            "DenseTeacher: {train_cfg: {loss_weight: {distill_loss_cls: -0.5}}}",
            "x.yml:1: DenseTeacher.train_cfg.loss_weight.distill_loss_cls: expected at least 0, got -0.5",
        ),
        (
            "DenseTeacher: {train_cfg: {loss_weight: 4.0}}",
            "x.yml:1: DenseTeacher.train_cfg.loss_weight: expected mapping of text to any value, got 4.0 (float)",
        ),
        (
            "DenseTeacher: {test_cfg: {inference_on: student}}",
            "x.yml:1: DenseTeacher.test_cfg.inference_on: expected 'teacher', got 'student' (text)",
        ),
        (
            "DenseTeacher: {train_cfg: {suppress: lineer}}",
            "x.yml:1: DenseTeacher.train_cfg.suppress: expected one of 'linear', 'exp', 'step' or null, "
            "got 'lineer' (text); did you mean 'linear'?",
        ),
        ("semi_start_iters: -1", "x.yml:1: semi_start_iters: expected at least 0, got -1"),
        (
            "semi_start_iters: 135%",
            "x.yml:1: semi_start_iters: expected a number of steps, or a share of the run from 0% to 100%, "
            "got '135%' (text)",
        ),
        (
            "ema_start_iters: soon",
            "x.yml:1: ema_start_iters: expected a number of steps, or a share of the run from 0% to 100%, "
            "got 'soon' (text)",
        ),
        (
            "amp_level: O3",
            "x.yml:1: amp_level: expected one of 'O1', 'O2', got 'O3' (text)",
        ),
        ("ToyFlip: {prob: true}", "x.yml:1: ToyFlip.prob: expected float, got True (true/false)"),
        (
            "ToyBackbone:\n  return_idx: [1, 2, a]",
            "x.yml:2: ToyBackbone.return_idx.2: expected int, got 'a' (text)",
        ),
        (
            "ToyBackbone: {return_idx: [1, true]}",
            "x.yml:1: ToyBackbone.return_idx.1: expected int, got True (true/false)",
        ),
        (
            "ToyBackbone: {return_idx: 3}",
            "x.yml:1: ToyBackbone.return_idx: expected list of int, got 3 (int)",
        ),
        (
            "TestDataset: {name: ToyDataSet, anno_path: a, fields: image}",
            "x.yml:1: TestDataset.fields: expected list of text, got 'image' (text)",
        ),
        (
            "ToyHead: {loss: {name: ToyLoss, quality: ious}}",
            "x.yml:1: ToyHead.loss.quality: expected one of 'centerness', 'iou', got 'ious' (text); "
            "did you mean 'iou'?",
        ),
        (
            "ToyHead: {loss: {weights: [1, x]}}",
            "x.yml:1: ToyHead.loss.weights.1: expected float, got 'x' (text)",
        ),
        (
            "num_classes: 3\nnorm_type: gn\nToyBackbone: {norm_type: 3}",
            "x.yml:3: ToyBackbone.norm_type: expected text, got 3 (int)",
        ),
        # missing values
        (
            "ToyReader:\n  transforms:\n  - ToyResize: {interp: 1}",
            "x.yml:3: ToyReader.transforms.0.target_size: missing, ToyResize needs it (list of int)",
        ),
        (
            "TrainDataset: !ToyDataSet {}",
            "x.yml:1: TrainDataset.anno_path: missing, ToyDataSet needs it (text)",
        ),
    ],
)
def test_mistakes_in_a_file(load, text, expected):
    assert message(load, text).partition("; meaning: ")[0] == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("num_classes: x", "; meaning: number of object classes, shared by all components that need it"),
        ("export: {nms: 1}", "; meaning: the exported graph ends with non-maximum suppression"),
        ("ToyFlip: {prob: x}", "expected float, got 'x' (text); meaning: probability of a flip"),
        ("ToyReader: {transforms: [ToyFlip: {probb: 1}]}", "did you mean 'prob'? (probability of a flip)"),
    ],
)
def test_mistakes_explain_the_parameter(load, text, expected):
    assert message(load, text).endswith(expected)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        (
            "ToyHed.stride=[1]",
            "-o: ToyHed: neither a component nor a global setting; did you mean 'ToyHead'?" + OWN,
        ),
        ("ToyHead.strde=[1]", "-o: ToyHead.strde: ToyHead has no parameter 'strde'; did you mean 'stride'?"),
        ("ToyHead.stride.1=x", "-o: ToyHead.stride.1: expected int, got 'x' (text)"),
        ("DenseTeacher.train_cfg.gama=1", "-o: DenseTeacher.train_cfg.gama: no such setting; did you mean 'gamma'?"),
        ("num_classes=a", "-o: num_classes: expected int, got 'a' (text)"),
        ("epoch", "-o: expected key=value, such as ResNet.depth=18, got 'epoch'"),
        ("=1", "-o: expected key=value, such as ResNet.depth=18, got '=1'"),
        ("save_dir={", "-o: save_dir: YAML syntax: "),
        *(
            (f"semi_start_iters={text}", "-o: semi_start_iters: YAML syntax: ")
            for text in (
                "%",
                "%5",
                "@",
                "`",
                "*",
                "&",
                "[",
                "]",
                "{",
                "}",
                ",",
                ":",
                "'",
                '"',
                "\t",
                "a: b: c",
                "*a",
                "\x07",
            )
        ),
        ("semi_start_iters=?", "-o: semi_start_iters: '' cannot be a key"),
        ("auto_lr={literal: [], literal: []}", "-o: auto_lr: literal: the key is set twice, first at -o"),
        (
            "x_a=!!python/object/apply:os.system [ls]",
            "-o: x_a: the YAML tag !!python/object/apply:os.system is refused",
        ),
        (
            "ToyHead.nms=!ToyFlp {}",
            "-o: ToyHead.nms: !ToyFlp is not a component that can be a tag; did you mean 'ToyFlip'?" + OWN,
        ),
    ],
)
def test_mistakes_in_an_override(load, override, expected):
    found = message(load, "", override)
    assert found.startswith(expected)
    assert "\n" not in found and r"\x00" not in found


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("ema_start_iters", "a number of steps, or a share of the run from 0% to 100%"),
        ("epoch", "int or null"),
        ("hooks", "a list of components"),
        ("DenseTeacher.train_cfg.suppress", "one of 'linear', 'exp', 'step' or null"),
        ("ToyFlip.prob", "float"),
        *(
            (key, "a value of YAML, such as 3, true, text or [1, 2]")
            for key in ("ToyHead.nms", "ToyHead.nms.prob", "x_a")
        ),
    ],
)
def test_what_is_no_yaml_is_told_from_what_is_expected(load, key, expected):
    assert f"; expected {expected}, got '%': " in message(load, "", f"{key}=%")


@pytest.mark.parametrize(
    ("text", "key", "value"),
    [
        ("ToyFlip: {prob: 1}", "ToyFlip.prob", 1),
        ("ToyFlip: {prob: 1e-4}", "ToyFlip.prob", 1e-4),
        ("ToyLoss: {weights: null}", "ToyLoss.weights", None),
        ("ToyLoss: {weights: [1, 0.5]}", "ToyLoss.weights", [1, 0.5]),
        ("ToyHead: {nms: null, options: {type: Momentum, anything: [1, {a: b}]}}", "ToyHead.options.anything.1.a", "b"),
        ("ToyHead: {loss: {alpha: 1}}", "ToyHead.loss.alpha", 1),
        ("ToyDetector:", "ToyDetector", None),
        ("ToyReader: {transforms: []}", "ToyReader.transforms", []),
        ("weights: output/fcos_r50_fpn_1x_coco/model_final", "weights", "output/fcos_r50_fpn_1x_coco/model_final"),
        ("pretrain_weights: null", "pretrain_weights", None),
        ("TrainDataset: ToyFolder", "TrainDataset", "ToyFolder"),
        (
            "ToyResize: {target_size: [1]}\nToyReader: {transforms: [ToyResize]}",
            "ToyReader.transforms",
            ["ToyResize"],
        ),
    ],
)
def test_good_values(load, text, key, value):
    node = load(text).to_dict()
    for part in key.split("."):
        node = node[int(part)] if isinstance(node, list) else node[part]
    assert node == value and type(node) is type(value)


def test_a_shared_global_must_suit_those_who_share_it(load):
    assert message(load, "norm_type: gn\nToyBackbone: {}\nnum_classes: x").startswith("x.yml:3: num_classes: ")


def test_nested_sections_that_nothing_uses_are_checked_too(load):
    text = "ToyReader:\n  transforms: [ToyFlip]\nToyHead:\n  loss: {name: ToyLoss, weights: [1, no]}\n"
    assert message(load, text).startswith("x.yml:4: ToyHead.loss.weights.1: expected float")
