"""An empty list is refused by every transform: with it, the transform would do nothing without a word."""

import pytest

from ppdet.core.registry import components_of
from ppdet.core.workspace import import_components
from ppdet.data import transforms as T

# What each transform needs beside its defaults. A new transform with a required parameter needs an entry.
NEEDED = {
    "Albu": {"transforms": [{"Blur": {}}]},
    "BatchRandomResize": {"target_size": [40]},
    "RandomResize": {"target_size": [40]},
    "RandomResizeCrop": {"resizes": [40], "cropsizes": [[20, 30]]},
    "RandomSelect": {"transforms1": [T.RandomFlip()], "transforms2": [T.RandomFlip()]},
    "RandomShortSideResize": {"short_side_sizes": [40]},
    "RandomSizeCrop": {"min_size": 20, "max_size": 30},
    "Resize": {"target_size": 40},
    "StrongAugImage": {"transforms": [T.RandomGrayscale()]},
}
# Lists that may be empty, since the transform still does something.
MAY_BE_EMPTY = {("RandomSelect", "transforms1"), ("RandomSelect", "transforms2")}


def list_parameters():
    import_components()
    own = [schema for schema in components_of("transforms") if schema.cls.__module__.startswith(T.__name__)]
    return {schema.name: [one.name for one in schema.parameters.values() if one.accepts_list] for schema in own}


LISTS = {name: parameters for name, parameters in list_parameters().items() if parameters}
EACH = [(name, parameter) for name, parameters in LISTS.items() for parameter in parameters]


def make(name, **options):
    values = {**NEEDED.get(name, {}), **options}
    if "input_size" in options:
        values.pop("target_size", None)  # it would not be looked at
    if "scales" in options:
        values.update(target_size=None, input_size=[40, 60])
    return getattr(T, name)(**values)


@pytest.mark.parametrize(("name", "parameter"), EACH)
def test_an_empty_list_is_one_line_that_names_the_parameter(name, parameter):
    if name == "Albu":
        pytest.importorskip("albumentations")
    make(name)
    if (name, parameter) in MAY_BE_EMPTY:
        make(name, **{parameter: []})
        return
    with pytest.raises(ValueError, match=rf"^{'' if parameter == 'input_size' else name}[^\n]*\b{parameter}\b[^\n]*$"):
        make(name, **{parameter: []})


@pytest.mark.parametrize("name", LISTS)
def test_all_lists_empty_at_once(name):
    """RandomSelect and RandomErasingCrop have several lists that are of one length, or of which one may be empty."""
    with pytest.raises(ValueError, match=rf"^{name}[^\n]*$"):
        getattr(T, name)(**{**NEEDED.get(name, {}), **{parameter: [] for parameter in LISTS[name]}})


@pytest.mark.parametrize("name", ["RandomCrop", "RandomResizeCrop"])
def test_thresholds_that_no_window_reaches_are_refused(name):
    with pytest.raises(ValueError, match=rf"^{name}\.thresholds\.1 is 30, expected a probability from 0 to 1$"):
        make(name, thresholds=[0.3, 30])


def test_a_list_of_sizes_has_no_empty_size():
    for make_one in (
        lambda: T.RandomResize(target_size=[[]]),
        lambda: T.BatchRandomResize(target_size=[[]]),
        lambda: T.RandomResizeCrop(resizes=[[]], cropsizes=[[20, 30]]),
        lambda: T.RandomResizeCrop(resizes=[40], cropsizes=[[]]),
    ):
        with pytest.raises(ValueError, match=r"^\w+\.\w+ is \[\], expected one or two positive integers$"):
            make_one()
