"""docs/AUGMENTATION.md: every transform is on it, its lists can be built, and its pictures are those of its lists."""

import importlib.util
import re
from pathlib import Path

import cv2
import pytest
import yaml

from ppdet.core.registry import components_of
from ppdet.core.workspace import import_components, load_config
from ppdet.data.transforms.albu.named_transforms import GROUPS, MOVES, PIXELS
from ppdet.utils.extras import absent_packages

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "AUGMENTATION.md").read_text(encoding="utf-8")
BASE = "fcos_r18vd_fpn_bccd.yml"
PICTURES = ROOT / "docs" / "images" / "augmentation"


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("augmentation_pictures", ROOT / "docs/site/augmentation_pictures.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_transform_is_named():
    import_components()
    names = {schema.name for schema in components_of("transforms") if schema.cls.__module__.startswith("ppdet.")}
    assert {name for name in names if not re.search(rf"\b{name}\b", PAGE)} == set()


def test_lists_and_pictures(script):
    """Each picture follows a list of transforms, which can be built; together they are small."""
    lists = script.lists_of_page(PAGE)
    assert set(re.findall(r"images/augmentation/(\w+)\.jpg", PAGE)) == set(lists)
    assert {path.stem for path in PICTURES.iterdir()} == set(lists)
    assert sum(path.stat().st_size for path in PICTURES.iterdir()) < 10**6
    for name, block in lists.items():
        if "Albu" in block and absent_packages("albumentations"):
            continue
        written = [next(iter(entry)) for entry in yaml.safe_load(block)]
        assert [type(transform).__name__ for transform in script.build(block)] == written, name
        height, width = cv2.imread(str(PICTURES / f"{name}.jpg")).shape[:2]
        assert (height, width) == (script.TILE[0], 4 * script.TILE[1] + 3 * script.GAP), "an image and three samples"


def test_the_first_list_and_the_settings_load(tmp_path):
    [first] = re.findall(r"^```yaml\n(_BASE_: \[my_data.yml\]\n.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    (tmp_path / "mine.yml").write_text(first.replace("my_data.yml", BASE))
    transforms = load_config(tmp_path / "mine.yml").component("TrainReader").create("sample_transforms")
    assert len(transforms) == len(yaml.safe_load(first)["TrainReader"]["sample_transforms"])
    [closing] = re.findall(r"^```yaml\n(TrainReader:\n.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    (tmp_path / "closing.yml").write_text(f"_BASE_: [{BASE}]\n{closing}")
    assert load_config(tmp_path / "closing.yml").value("TrainReader.cutmix_epoch") == "50%"


def test_the_transforms_of_albumentations_are_those_of_the_code():
    section = PAGE.partition("## Albumentations")[2].partition("\n## ")[0]
    for heading, names in (("boxes stay", PIXELS), ("boxes follow", MOVES), ("groups", GROUPS)):
        [item] = re.findall(rf"\* \*\*{heading}\*\*: (.*?)\.(?:\s)", section, re.DOTALL)
        assert set(re.findall(r"`(\w+)`", item)) - {"transforms"} == names
