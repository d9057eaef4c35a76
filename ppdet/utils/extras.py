"""Packages of the optional extras in pyproject.toml: which are not installed, and the line that installs them.

The line names the packages themselves. ppdet is not on the Python package index, so that its own name with an extra
cannot be installed, and `pip install '.[serve]'` works only in a checkout.
"""

import importlib.util
import shlex
from collections.abc import Iterable, Mapping

from ppdet.utils.errors import UserError

# The packages of each extra, with the module that each has.
EXTRAS: Mapping[str, Mapping[str, str]] = {
    "onnx": {"onnx": "onnx", "onnxruntime": "onnxruntime", "onnxslim": "onnxslim", "paddle2onnx": "paddle2onnx"},
    "openvino": {"openvino": "openvino"},
    "int8": {"nncf": "nncf"},
    "serve": {
        "fastapi": "fastapi",
        "prometheus-client": "prometheus_client",
        "python-multipart": "python_multipart",
        "uvicorn": "uvicorn",
    },
    "data": {"defusedxml": "defusedxml", "globox": "globox", "imagehash": "imagehash"},
    "batch": {"fsspec": "fsspec", "pyarrow": "pyarrow", "ray": "ray"},
    "ray": {"ray[serve]": "ray"},
    "albumentations": {"albumentations": "albumentations"},
    "tensorboard": {"tensorboardX": "tensorboardX"},
    "vdl": {"visualdl": "visualdl"},
    "wandb": {"wandb": "wandb"},
    "mlflow": {"mlflow": "mlflow"},
    "swanlab": {"swanlab": "swanlab"},
}

PADDLE_ADVICE = "pip install paddlepaddle, or the build for your GPU (docs/GPU.md)"


def require_paddle() -> None:
    """Raise ModuleNotFoundError, as importing paddle would, if it is not installed. It is not imported."""
    if importlib.util.find_spec("paddle") is None:
        raise ModuleNotFoundError("No module named 'paddle'", name="paddle")


def evaluation_package() -> str:
    """The package that computes COCO's numbers: hotcoco; pycocotools, which is slower, if only that is installed."""
    only_pycocotools = not importlib.util.find_spec("hotcoco") and importlib.util.find_spec("pycocotools")
    return "pycocotools" if only_pycocotools else "hotcoco"


def require_hotcoco(error: type[UserError]) -> None:
    """Raise the error if hotcoco, which is required where it has wheels, is not installed."""
    if importlib.util.find_spec("hotcoco") is None:
        raise error(not_installed(["hotcoco"]))


def absent_packages(*extras: str) -> list[str]:
    """Return the packages of these extras that are not installed, by the names that pip knows."""
    packages = {package: module for extra in extras for package, module in EXTRAS[extra].items()}
    return [package for package, module in packages.items() if importlib.util.find_spec(module) is None]


def not_installed(packages: Iterable[str]) -> str:
    """Return a line for users: the names of packages that are not installed, and how to install them."""
    names = list(packages)
    are = "is" if len(names) == 1 else "are"
    return f"{', '.join(names)} {are} not installed: pip install {' '.join(map(shlex.quote, names))}"


def require_extras(error: type[UserError], *extras: str) -> None:
    """Raise the error, with the line of `not_installed`, if packages of these extras are not installed."""
    absent = absent_packages(*extras)
    if absent:
        raise error(not_installed(absent))


def require_package(error: type[UserError], package: str) -> None:
    """Raise the error, with the line of `not_installed`, if one package of an extra is not installed."""
    module = next(packages[package] for packages in EXTRAS.values() if package in packages)
    if importlib.util.find_spec(module) is None:
        raise error(not_installed([package]))
