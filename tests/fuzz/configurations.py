"""YAML: configurations with their bases, settings after -o, and infer_cfg.yml of exported models."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from tiny import TINY_YAML

from fuzz.case import Case, Content, Kind, Link, Special
from fuzz.draw import Draw
from fuzz.mutate import changed_tree, damaged, damaged_text, one_value, similar, word
from ppdet.core.registry import get_schema, taggable_names
from ppdet.core.settings import SETTINGS, SLOTS
from ppdet.core.shipped_configs import shipped_configs
from ppdet.core.show import show
from ppdet.core.workspace import load_config
from ppdet.deploy.preprocess import Preprocess, class_list, read_infer_cfg

INFER = {
    **{"mode": "paddle", "draw_threshold": 0.5, "metric": "COCO", "use_dynamic_shape": True, "arch": "FCOS"},
    "Preprocess": [
        {"type": "Resize", "target_size": [64, 160], "keep_ratio": True, "interp": 1},
        {"type": "NormalizeImage", "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "is_scale": True},
        {"type": "Permute"},
        {"type": "PadStride", "stride": 32},
    ],
    **{"label_list": ["red", "blue"], "category_ids": [3, 7]},
}
CREATED = ("LearningRate", "OptimizerBuilder")
BASE = "_BASE_"
NO_BASES = ["~nosuchuser/x.yml", "/dev/zero", "/dev/stdin", "..", ".", "b0.yml", "https://x/y.yml", "b1.yml"]


@cache
def honest() -> list[str]:
    import ppdet.data  # registers its components
    import ppdet.engine  # noqa: F401

    shipped = [Path(path).read_text() for _, path in sorted(shipped_configs().items())]
    return [TINY_YAML.format(output="output", data="data"), *shipped]


@cache
def keys() -> list[str]:
    """Names of settings, and dotted names of parameters."""
    honest()
    names = [*SETTINGS, *SLOTS, *taggable_names(), "ResNet", "FPN", "FCOSHead", "TrainReader", "LearningRate"]
    dotted = [
        f"{name}.{parameter}"
        for name in names
        if name not in SETTINGS and name not in SLOTS
        for parameter in _parameters(name)
    ]
    return [*SETTINGS, *SLOTS, *dotted]


def _parameters(name: str) -> list[str]:
    try:
        return list(get_schema(name).parameters)
    except Exception:
        return []


def hostile(draw: Draw) -> tuple[str, str]:
    """A text that no editor writes."""
    count = draw.one([10, 100, 1000, 20_000])
    kind = draw.one(list(HOSTILE))
    return HOSTILE[kind](draw, count), kind


def _aliases(draw: Draw, count: int) -> str:
    """Each anchor holds the one before several times."""
    lines = ["a0: &a0 [x]"]
    for i in range(1, min(count, 40)):
        inner = ", ".join([f"*a{i - 1}"] * draw.one([1, 2, 9]))
        lines.append(f"a{i}: &a{i} [{inner}]")
    return "\n".join(lines)


def _merges(draw: Draw, count: int) -> str:
    lines = ["a0: &a0 {x: 1}"]
    for i in range(1, min(count, 300)):
        lines.append(f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * draw.one([1, 2, 5]))}], y{i}: 1}}")
    return "\n".join(lines)


def _nested(draw: Draw, count: int) -> str:
    way = draw.one(["[", "{a: ", "- ", "? ", "!Foo [", "&a ["])
    return draw.one(["", "x: ", "ResNet: "]) + way * count


def _indented(draw: Draw, count: int) -> str:
    return "\n".join(" " * i + "a:" for i in range(min(count, 2000)))


def _number(draw: Draw, count: int) -> str:
    digits = draw.one(
        [
            "9" * count,
            "1" + ":59" * count,
            "0x" + "f" * count,
            "0b" + "1" * count,
            "1_" * count + "1",
            "0" + "7" * count,
        ]
    )
    number = draw.one(["", "-", "+"]) + draw.one([digits, digits, f"1e{'9' * min(count, 20)}", f"{'1' * count}.5"])
    return f"{draw.one(['epoch', 'num_classes', 'x_a', 'log_iter'])}: {number}"


def _long(draw: Draw, count: int) -> str:
    return draw.one(
        ["a" * count + ": 1", "a: " + "b" * 10 * count, "#" * 10 * count, " " * count, "\n" * count, "- a\n" * count]
    )


def _many(draw: Draw, count: int) -> str:
    line = draw.one(["{i}: {i}", "x_{i}: [{i}]", "a: {i}", "- {i}", "&a{i} b{i}: *a{i}", "Foo{i}: {{}}", "---"])
    return "\n".join(line.format(i=i) for i in range(min(count, 3000)))


def _odd(draw: Draw, count: int) -> str:
    """A small mapping with unusual keys and values."""
    return "\n".join(f"{draw.one([draw.one(keys()), word(draw)])}: {word(draw)}" for _ in range(draw.one([1, 3, 10])))


def _quoted(draw: Draw, count: int) -> str:
    text = draw.one(
        ["\\ud800", "\\0", "\\x1b[31m", "\\U00110000", "\\x", "\\L", "\\e", "\\uZZZZ", "\\n", "\\\n", draw.text()]
    )
    return f'{draw.one(["weights", "run_name", "x_a", BASE, "architecture", "ResNet"])}: "{text}"'


HOSTILE = {
    **{"aliases": _aliases, "merges": _merges, "nested": _nested, "indented": _indented, "number": _number},
    **{"long": _long, "many": _many, "odd": _odd, "quoted": _quoted, "odd again": _odd},
}


class _Loader(yaml.SafeLoader):
    """Reads `!Name {...}` as a mapping with the key `name`."""


_Loader.add_multi_constructor(
    "!", lambda loader, name, node: {"name": name, **loader.construct_mapping(node, deep=True)}
)


@cache
def _tiny() -> Any:
    return yaml.load(TINY_YAML.format(output="output", data="data"), _Loader)


def tree(draw: Draw) -> tuple[str, str]:
    """An honest configuration with changed values, written by PyYAML."""
    changed, made = changed_tree(draw, _tiny())
    for _ in range(draw.one([0, 1, 2])):
        if isinstance(changed, dict):
            name, _, parameter = draw.one(keys()).partition(".")
            changed[name] = {parameter: draw.value()} if parameter else draw.value()
    try:
        return yaml.safe_dump(changed, allow_unicode=draw.chance(0.5)), f"tree {made}"
    except (yaml.YAMLError, RecursionError, ValueError):
        return repr(changed), "text of a tree"


def text(draw: Draw) -> tuple[str, str]:
    make = draw.one(["damaged", "damaged", "shipped", "hostile", "hostile", "tree", "tree"])
    if make == "tree":
        return tree(draw)
    if make == "hostile":
        return hostile(draw)
    return damaged_text(draw, honest()[0] if make == "damaged" else draw.one(honest()))


def encoded(draw: Draw, content: str) -> bytes:
    """As bytes, sometimes in another encoding, or damaged."""
    codec = draw.one(["utf-8"] * 12 + ["utf-16", "utf-16-le", "utf-32", "utf-8-sig", "latin-1", "cp1252"])
    data = content.encode(codec, "surrogatepass" if codec.startswith("utf") else "replace")
    return damaged(draw, data)[0] if draw.chance(0.1) else data


def bases(draw: Draw) -> tuple[dict[str, Content], str]:
    """Files that name each other: doubled, in a circle, deep, missing, and of another kind."""
    count = draw.one([2, 5, 30, 200])
    kind = draw.one(["doubled", "circle", "deep", "wide", "odd", "odd", "odd", "special", "special"])
    files: dict[str, Content] = {}
    if kind == "doubled":
        for i in range(count):
            files[f"b{i}.yml"] = (
                f"{BASE}: [{', '.join([f'b{i + 1}.yml'] * draw.one([1, 2, 3]))}]\nepoch: {i + 1}".encode()
            )
        files[f"b{count}.yml"] = b"epoch: 1"
    elif kind == "circle":
        for i in range(count):
            files[f"b{i}.yml"] = f"{BASE}: [b{(i + 1) % count}.yml, ./b{(i + 1) % count}.yml]".encode()
    elif kind == "deep":
        files = {f"b{i}.yml": f"{BASE}: b{i + 1}.yml\nx_{i}: 1".encode() for i in range(10 * count)}
        files[f"b{10 * count}.yml"] = b"epoch: 1"
    elif kind == "wide":
        files["b0.yml"] = f"{BASE}: [{', '.join(['b1.yml'] * 20 * count)}]".encode()
        files["b1.yml"] = encoded(draw, honest()[0])
    elif kind == "odd":
        named = draw.one([draw.text(), *NO_BASES])
        value = draw.one([repr(named), f"[{named!r}]", f'"{named}"', word(draw), "{a: 1}", "[[b1.yml]]", "[1]", "*b"])
        files["b0.yml"] = f"{BASE}: {value}\nepoch: 1".encode("utf-8", "surrogatepass")
        files["b1.yml"] = encoded(draw, text(draw)[0])
    else:
        files["b0.yml"] = f"{BASE}: {draw.one(['b1.yml', '[b1.yml]', 'b1'])}\nepoch: 1".encode()
        files["b1.yml"] = special(draw, "b1.yml")
    return files, f"bases, {kind}"


def special(draw: Draw, name: str) -> Content:
    # fmt: off
    choices: list[Content] = [
        Special("fifo"), Special("socket"), Special("folder"), Link("/dev/zero"), Link("/dev/random"),
        Link("/dev/null"), Link(name), Link("nowhere"), Link("."), Link("/proc/self/mem"), Link("/proc/self/fd/0"),
        b"\0" * 1000, b"\xff" * 100, b"",
    ]
    # fmt: on
    return draw.one(choices)


def option(draw: Draw) -> str:
    """A text after -o."""
    key = draw.one(
        [draw.one(keys()), draw.one(keys()), "TrainReader.sample_transforms.0.Decode", word(draw), draw.text()]
    )
    if draw.chance(0.1):
        key += draw.one([".x", ".0", ".999999999999", ".-1", ".", "..", "=", ".a" * 1000])
    value = draw.one(
        [word(draw), draw.text(), hostile(draw)[0][:3000], str(draw.number()), yaml.safe_dump(draw.number())]
    )
    return draw.one([f"{key}={value}", f"{key}={value}", f"{key}={value}", key, f"={value}", f"{key}={{a: {value}}}"])


def valid(draw: Draw) -> Case:
    """A whole configuration or infer_cfg.yml with one value changed: in the file, in a base of it, or after -o."""
    made = draw.one(["file", "file", "base", "option", "infer", "infer"])
    if made == "infer":
        text = yaml.safe_dump(one_value(draw, INFER)[0])
        return Case("infer", {"infer_cfg.yml": text.encode()}, {}, "infer_cfg.yml, one value")
    whole = _tiny()
    files: dict[str, Content] = {"b0.yml": yaml.safe_dump(whole).encode()}
    options: list[str] = []
    name = draw.one([key for key, value in whole.items() if not isinstance(value, (dict, list))])
    changed = similar(draw, whole[name])
    if made == "file":
        files["b0.yml"] = yaml.safe_dump(one_value(draw, whole)[0]).encode()
    elif made == "base":
        files["b1.yml"] = files["b0.yml"]
        files["b0.yml"] = yaml.safe_dump(
            {BASE: draw.one(["b1.yml", ["b1.yml"], ["b1.yml"] * 2]), name: changed}
        ).encode()
    else:
        options = [f"{name}={yaml.safe_dump(changed).removesuffix('...').strip()}"]
    return Case("config", files, {"options": options, "named": [*files, "configs", "-o"]}, f"one value, {made}")


def build(draw: Draw) -> Case:
    if draw.chance(0.5):
        return valid(draw)
    kind = draw.one(["file", "file", "file", "bases", "bases", "options", "options", "infer", "infer", "special"])
    arguments: dict[str, Any] = {"options": []}
    if kind == "infer":
        changed, made = changed_tree(draw, INFER) if draw.chance(0.7) else (None, "")
        if changed is None:
            content, made = damaged_text(draw, yaml.safe_dump(INFER)) if draw.chance(0.6) else hostile(draw)
        else:
            try:
                content = yaml.safe_dump(changed)
            except (yaml.YAMLError, RecursionError, ValueError):
                content = repr(changed)
        data: Content = special(draw, "infer_cfg.yml") if draw.chance(0.05) else encoded(draw, content)
        return Case("infer", {"infer_cfg.yml": data}, {}, f"infer_cfg.yml {made}")
    if kind == "bases":
        files, made = bases(draw)
    elif kind == "special":
        files, made = {"b0.yml": special(draw, "b0.yml")}, "another kind of file"
    elif kind == "options":
        files, made = {"b0.yml": honest()[0].encode()}, "options"
        arguments = {"options": [option(draw) for _ in range(draw.one([1, 1, 2, 5]))], "named": ["b0.yml", "-o"]}
    else:
        content, made = text(draw)
        files = {"b0.yml": encoded(draw, content)}
    # The mistake can also be said to be in a shipped file that a file of the case names as its base.
    arguments = {"named": [*files, "configs"], **arguments}
    return Case("config", files, arguments, made)


def _config(case: Case) -> str:
    config = load_config("b0.yml", case.arguments["options"])
    print(show(config))
    config.dump("dumped.yml")
    for name in CREATED:
        config.create(name)
    for name in ("TrainReader", "EvalReader", "TestReader"):
        config.component(name).create("sample_transforms")
    load_config("dumped.yml")
    return "config"


def _infer(case: Case) -> str:
    settings = read_infer_cfg(Path())
    print(*map(ascii, class_list(settings)[0]))
    preprocess = Preprocess(settings)
    sample = preprocess.prepare(np.zeros((30, 40, 3), np.uint8))
    list(preprocess.batches([sample]))
    return "infer"


YAML = Kind(build, {"config": _config, "infer": _infer}, prepare=lambda folder: keys() and None, memory=64 * 2**20)
