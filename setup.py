"""Puts configs/ into wheels as ppdet/configs, where an installed package finds them by name.

Everything else is said in pyproject.toml. In a checkout, and after `pip install -e .`, the package reads configs/.
"""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

CONFIGS = Path("configs")


class BuildWithConfigs(build_py):
    def run(self) -> None:
        super().run()
        if not self.editable_mode:
            target = Path(self.build_lib) / "ppdet" / "configs"
            shutil.rmtree(target, ignore_errors=True)
            shutil.copytree(CONFIGS, target, ignore=lambda _, names: [n for n in names if n.startswith("__")])

    def get_source_files(self) -> list[str]:
        """For source distributions."""
        return [*super().get_source_files(), *map(str, CONFIGS.rglob("*.yml"))]


setup(cmdclass={"build_py": BuildWithConfigs})
