"""JSON: annotations in COCO's format, results, histories, train.json of another project; text files of class names."""

import copy
import json
import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from fuzz.case import Case, Content, Kind, Link, Special
from fuzz.draw import Draw, dump
from fuzz.json_contents import HISTORY, IMAGES, LATER, OPTIONS, RESULTS, RUN, honest, picture
from fuzz.mutate import changed_tree, damaged, damaged_text, one_value, word
from ppdet.cli.from_json import convert, read_options
from ppdet.data.sources import COCODataSet, ImageFolder
from ppdet.data.splitting.split import split_annotations
from ppdet.data.splitting.split_files import config_lines
from ppdet.data.splitting.split_files import report as split_report
from ppdet.data.transforms.decode import Decode
from ppdet.engine.checkpoints.manifest import json_sha256
from ppdet.engine.results_file import image_sizes_by_id, read_results_file
from ppdet.engine.runs.analysis import cells, pseudo_label_rows, read_runs
from ppdet.engine.runs.run_folder import RunFolder
from ppdet.engine.runs.trained import find_run
from ppdet.engine.training.data_warnings import check_training_data, warn_of_data
from ppdet.metrics.coco_metric import COCOMetric
from ppdet.utils.errors import ImageError


class Source(NamedTuple):
    """A kind of JSON file: its name, an honest content, and whether it has one object per line."""

    file: str
    content: Any
    lines: bool = False


SOURCES = {
    "data set": Source("a.json", None),
    "evaluation": Source("a.json", None),
    "split": Source("a.json", None),
    "classes": Source("a.json", None),
    "results": Source("bbox.json", RESULTS),
    "history": Source("run/history.jsonl", HISTORY, lines=True),
    "later evaluations": Source("run/evaluations.jsonl", LATER, lines=True),
    "run": Source("run/run.json", RUN),
    "options": Source("train.json", OPTIONS),
}


def text_of(draw: Draw, source: Source) -> tuple[str, str]:
    """JSON text, more or less hostile."""
    content: Any = honest() if source.content is None else source.content
    make = draw.one(["one value"] * 10 + ["tree"] * 3 + ["field"] * 4 + ["text", "hostile", "twice"])
    if make == "hostile":
        return hostile(draw)
    made = make
    if make == "one value":
        content, made = one_value(draw, content)
    elif make == "tree":
        content, made = changed_tree(draw, content)
    elif make == "field":
        content, made = field(draw, copy.deepcopy(content))
    if source.lines and isinstance(content, list):
        text = "\n".join(map(dump, content))
    else:
        text = dump(content) if draw.chance(0.7) else json.dumps(content, indent=1, default=repr, ensure_ascii=False)
    if make == "text":
        return damaged_text(draw, text.replace(", ", ",\n"))
    if make == "twice":  # a key that comes twice in one object
        found = draw.one(list(re.finditer(r"\"(\w+)\": ", text)))
        return f"{text[: found.start()]}{found[0]}{dump(draw.value())}, {text[found.start() :]}", "a key twice"
    return text, made


def field(draw: Draw, content: Any) -> tuple[Any, str]:
    """Change the fields that matter most: ids, sizes, boxes and names."""
    rows = [
        row
        for part in (content.values() if isinstance(content, dict) else [content])
        if isinstance(part, list)
        for row in part
    ]
    rows = [row for row in rows if isinstance(row, dict)] or ([content] if isinstance(content, dict) else [])
    names = []
    for _ in range(draw.one([1, 1, 2, 4])):
        row = draw.one(rows)
        key = draw.one(list(row) or ["id"])
        if isinstance(row.get(key), list) and draw.chance(0.7) and row[key]:
            row[key][draw.randrange(len(row[key]))] = draw.one([draw.number(), draw.number(), draw.value()])
        else:
            row[key] = draw.one(
                [draw.number(), draw.number(), draw.text(), draw.text(), draw.value(), [], {}, None, True, "0", "1"]
            )
        names.append(str(key))
        if draw.chance(0.2):  # in all rows
            for other in rows:
                other[key] = row[key]
    return content, f"fields {' '.join(names)}"


def hostile(draw: Draw) -> tuple[str, str]:
    count = draw.one([10, 1000, 20_000])
    start = draw.one(["", '{"images": ', '{"categories": [{"id": 1, "name": "a"}], "images": [], "annotations": '])
    kinds = {
        "nested": start + draw.one(["[", '{"a":', '[{"b":']) * count,
        "closed": start + "[" * count + "]" * count + "}" * bool(start),
        "digits": f'{{"images": [{{"id": {draw.one(["9", "-9"]) * count}, "file_name": "1.png"}}], "categories": []}}',
        "exponent": f'{{"images": [{{"id": 1e{count}, "file_name": "1.png", "width": 1e{count}, "height": -1}}]}}',
        "keys": "{" + ", ".join(f'"k{i}": {i}' for i in range(count)) + "}",
        "lines": "\n".join(['{"a": 1}'] * min(count, 1000)),
        "escapes": '{"images": [{"id": 1, "file_name": "'
        + draw.one(["\\ud800", "\\u0000", "\\u001b[31m", "\\"]) * 50
        + '"}]}',
        "blanks": " " * count + "{}",
        "odd": word(draw),
        "numbers": draw.one(["NaN", "Infinity", "-Infinity", "0", "null", '"x"', "[]", "{}", "[[]]", "1e999"]),
        "rows": '{"categories": [{"id": 1, "name": "a"}], "images": ['
        + ", ".join([draw.one(["{}", "1", "[]"])] * 100)
        + "]}",
    }
    kind = draw.one(list(kinds))
    return kinds[kind], kind


def build(draw: Draw) -> Case:
    subject = draw.one(["data set"] * 5 + ["evaluation"] * 3 + ["results"] * 2 + list(SOURCES))
    source = SOURCES[subject]
    files: dict[str, Content] = {f"images/{i}.png": picture() for i in range(1, IMAGES + 1)}
    files["honest.json"] = dump(honest()).encode()
    text, made = text_of(draw, source)
    is_valid = made == "one value"
    if subject == "classes" and draw.chance(0.5):
        text, made = (
            draw.one(["\n".join(draw.text() for _ in range(draw.one([1, 3, 100]))), draw.text() * 100]),
            "a text file",
        )
    codec = (
        "utf-8" if is_valid else draw.one(["utf-8"] * 12 + ["utf-16", "utf-16-le", "utf-32", "utf-8-sig", "latin-1"])
    )
    data: Content = text.encode(codec, "surrogatepass" if codec.startswith("utf") else "replace")
    if not is_valid and draw.chance(0.1):
        data, made = damaged(draw, data)  # type: ignore[arg-type]
    if not is_valid and draw.chance(0.06):
        kinds: list[Content] = [
            Special("fifo"),
            Special("folder"),
            Link("/dev/zero"),
            Link(Path(source.file).name),
            Link("nowhere"),
        ]
        data, made = draw.one(kinds), "another kind of file"
    if draw.chance(0.05):
        files[draw.one(["images/1.png", "images/2.png"])] = draw.one(
            [b"", b"x", Special("fifo"), Special("folder"), Link("/dev/zero")]
        )
    if source.file.startswith("run/"):
        files["run/history.jsonl"] = "\n".join(map(dump, HISTORY)).encode()
    files[source.file] = data
    named = ["run"] if source.file.startswith("run/") else [source.file]
    if subject == "run":
        files["run/config.yml"] = b"epoch: 1\n"
        if draw.chance(0.7):
            content = changed_tree(draw, RUN)[0] if draw.chance(0.5) else field(draw, copy.deepcopy(RUN))[0]
            if isinstance(content, dict):
                content["sha256"] = json_sha256({key: value for key, value in content.items() if key != "sha256"})
            files["run/run.json"], made = dump(content).encode("utf-8", "surrogatepass"), "sealed"
    arguments = {"file": source.file, "named": named, "empty": draw.chance(0.5), "crowd": draw.chance(0.5)}
    return Case(subject, files, arguments, made)


def _data_set(case: Case) -> str:
    dataset = _dataset(case)
    check_training_data(dataset)
    decode, skipped = Decode(), 0
    for record in dataset.records[:5]:
        try:
            decode(dict(record))
        except ImageError as error:
            skipped += bool(str(error))
    return f"{min(len(dataset.records), 5)} records, {skipped} skipped"


def _dataset(case: Case) -> COCODataSet:
    dataset = COCODataSet(
        image_dir="images",
        anno_path=case.arguments["file"],
        data_fields=["image", "gt_bbox", "gt_class", "is_crowd"],
        allow_empty=case.arguments["empty"],
        load_crowd=case.arguments["crowd"],
    )
    print("\n".join(map(ascii, dataset.class_names)))
    return dataset


def _evaluation(case: Case) -> str:
    dataset = _dataset(case)
    metric = COCOMetric(
        anno_path=case.arguments["file"],
        category_ids=dataset.category_ids,
        class_names=dataset.class_names,
        classwise=True,
    )
    sizes = image_sizes_by_id(dataset)
    row = np.array([[0, 0.9, 2, 3, 12, 11]], np.float32)
    for record in dataset.records[:5]:
        identity = record["im_id"].item()
        size = sizes.get(identity)
        metric.update(row, [1], [identity], [size] if size else None)
    metric.compute()
    warn_of_data(dataset, "EvalDataset", training=False)
    print(ascii(metric.table()))
    return "evaluated"


def _results(case: Case) -> str:
    dataset = COCODataSet(image_dir="images", anno_path="honest.json", data_fields=["image", "gt_bbox", "gt_class"])
    results = read_results_file(Path(case.arguments["file"]), dataset)
    metric = COCOMetric(anno_path="honest.json", category_ids=dataset.category_ids, class_names=dataset.class_names)
    ids = [record["im_id"].item() for record in dataset.records]
    metric.extend_results(results, ids, image_sizes_by_id(dataset), case.arguments["file"])
    metric.compute()
    return "results"


def _split(case: Case) -> str:
    splits = split_annotations(
        case.arguments["file"],
        percents=["50"],
        images=1,
        seeds=[1, 2],
        output_dir="out",
        stratified=case.arguments["crowd"],
    )
    print(split_report(splits))
    print(config_lines(splits[0]))
    return "split"


def _classes(case: Case) -> str:
    dataset = ImageFolder(image_dir="images", anno_path=case.arguments["file"])
    return f"{len(dataset.records)} images"


def _history(case: Case) -> str:
    runs = read_runs([Path("run")])
    for run in runs:
        print("\n".join([cells(numbers) for numbers in run.evaluations.values()] + pseudo_label_rows(run)))
    return "history"


def _run(case: Case) -> str:
    folder = RunFolder(Path("run"), keep_every=1)
    folder.newest()
    folder.begin(None, go_on=True)
    return str(find_run("run")[0])


def _options(case: Case) -> str:
    convert(read_options(Path(case.arguments["file"])))
    return "options"


JSON = Kind(
    build,
    {
        **{"data set": _data_set, "evaluation": _evaluation, "results": _results, "split": _split, "classes": _classes},
        **{"history": _history, "later evaluations": _history, "run": _run, "options": _options},
    },
    memory=64 * 2**20,
)
