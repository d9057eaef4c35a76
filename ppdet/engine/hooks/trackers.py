"""Trackers of experiments as boards: Weights & Biases, MLflow, SwanLab.

Each writes files into the run's folder, and sends nothing, unless the variables of its own library in the environment
say otherwise (WANDB_MODE=online, MLFLOW_TRACKING_URI, SWANLAB_MODE=online). So keys and addresses are in no YAML file.
They get the run's name, its settings without passwords, scalars, pictures, and how it ended: no command line,
environment, output or code.
"""

import logging
import os
import re
import time
from pathlib import Path

import numpy as np

from ppdet.engine.hooks.boards import Board, Setting, without_secrets
from ppdet.utils.printable import printable
from ppdet.utils.process.stop import Stopped

PROJECT = (
    "ppdet"  # in which the runs are, unless WANDB_PROJECT, MLFLOW_EXPERIMENT_NAME or SWANLAB_PROJ_NAME says another
)
MOST_METRICS, MOST_PARAMS, LONGEST_PARAM = 1000, 100, 6000  # that MLflow takes in one request, and characters of one


class Wandb(Board):
    """A run of Weights & Biases."""

    setting, package, name = "use_wandb", "wandb", "wandb"
    tries_again = False

    def __init__(self, folder: Path, run: str) -> None:
        import wandb

        mode = os.environ.get("WANDB_MODE", "offline")
        project = os.environ.get("WANDB_PROJECT", PROJECT)
        self.place = (
            f"wandb's server ({project})" if mode in ("online", "shared") else f"{folder} (`wandb sync` sends them)"
        )
        folder.mkdir(parents=True, exist_ok=True)
        quiet = wandb.Settings(
            console="off",
            silent=True,
            disable_git=True,
            disable_code=True,
            save_code=False,
            x_disable_meta=True,
            x_disable_stats=True,
            x_save_requirements=False,
        )
        # wandb makes a folder "wandb" below the one that it gets.
        parent = folder.parent if folder.name == self.name else folder
        self.run = wandb.init(
            project=project, name=run, dir=str(parent), mode=mode, settings=quiet, reinit="create_new"
        )

    @classmethod
    def errors(cls) -> tuple[type[Exception], ...]:
        import wandb

        return (OSError, wandb.Error)

    def add_settings(self, settings: dict[str, Setting]) -> None:
        self.run.config.update(settings)

    def add(self, scalars: dict[str, float], step: int) -> None:
        self.run.log(scalars, step=step)

    def add_picture(self, name: str, picture: np.ndarray, step: int) -> None:
        import wandb

        self.run.log({name: wandb.Image(picture)}, step=step)

    def flush(self) -> None:
        """Do nothing: a process of wandb writes."""

    def close(self, error: BaseException | None) -> None:
        self.run.finish(exit_code=0 if error is None else error.exit_code if isinstance(error, Stopped) else 1)


class MLflow(Board):
    """A run in an experiment of MLflow."""

    setting, package, name = "use_mlflow", "mlflow", "mlflow"
    tries_again = False  # each failed request of a server that is gone takes minutes

    def __init__(self, folder: Path, run: str) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        for logs in ("alembic", "mlflow.store.db.utils"):
            logging.getLogger(logs).setLevel(logging.WARNING)
        from mlflow import MlflowClient

        server = os.environ.get("MLFLOW_TRACKING_URI")
        experiment = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        self.place = f"the server of MLFLOW_TRACKING_URI ({experiment})" if server else str(folder / "mlflow.db")
        folder.mkdir(parents=True, exist_ok=True)
        folder = folder.resolve()
        self.client = MlflowClient(server or f"sqlite:///{(folder / 'mlflow.db').as_posix()}")
        known = self.client.get_experiment_by_name(experiment)
        artifacts = None if server else (folder / "artifacts").as_uri()
        number = known.experiment_id if known else self.client.create_experiment(experiment, artifacts)
        self.run_id = self.client.create_run(number, run_name=run).info.run_id
        self.waiting: list = []

    @classmethod
    def errors(cls) -> tuple[type[Exception], ...]:
        from mlflow.exceptions import MlflowException

        return (OSError, MlflowException, ImportError)  # it imports SQLAlchemy only when it opens a file

    def add_settings(self, settings: dict[str, Setting]) -> None:
        from mlflow.entities import Param

        params = [Param(allowed_name(name), str(value)[:LONGEST_PARAM]) for name, value in settings.items()]
        for first in range(0, len(params), MOST_PARAMS):
            self.client.log_batch(self.run_id, params=params[first : first + MOST_PARAMS])

    def add(self, scalars: dict[str, float], step: int) -> None:
        from mlflow.entities import Metric

        now = round(time.time() * 1000)
        self.waiting += [Metric(allowed_name(name), value, now, step) for name, value in scalars.items()]

    def add_picture(self, name: str, picture: np.ndarray, step: int) -> None:
        self.client.log_image(self.run_id, picture, f"{allowed_name(name)}_{step}.png")

    def flush(self) -> None:
        while self.waiting:
            self.client.log_batch(self.run_id, metrics=self.waiting[:MOST_METRICS])
            del self.waiting[:MOST_METRICS]

    def close(self, error: BaseException | None) -> None:
        status = "FINISHED" if error is None else "KILLED" if isinstance(error, Stopped) else "FAILED"
        self.client.set_terminated(self.run_id, status)


def allowed_name(name: str) -> str:
    """Return the name of a scalar with _ in place of what MLflow does not allow in names."""
    return re.sub(r"[^A-Za-z0-9_\-. :/]", "_", name)


class SwanLab(Board):
    """An experiment of SwanLab."""

    setting, package, name = "use_swanlab", "swanlab", "swanlab"
    tries_again = False

    def __init__(self, folder: Path, run: str) -> None:
        import swanlab

        mode = os.environ.get("SWANLAB_MODE", "offline")
        project = os.environ.get("SWANLAB_PROJ_NAME", PROJECT)
        is_sent = mode in ("online", "cloud")
        self.place = f"SwanLab's server ({project})" if is_sent else f"{folder} (`swanlab sync` sends them)"
        folder.mkdir(parents=True, exist_ok=True)
        off = dict.fromkeys(("hardware", "runtime", "requirements", "git", "monitor"), False)
        settings = swanlab.Settings(interactive=False, terminal={"proxy_type": "none"}, probe=off)
        self.run = swanlab.init(
            project=project, name=run[:512], log_dir=str(folder), mode=mode, settings=settings, reinit=True
        )

    @classmethod
    def errors(cls) -> tuple[type[Exception], ...]:
        from swanlab.exceptions import AuthenticationError, DataStoreError

        return (OSError, AuthenticationError, DataStoreError)

    def add_settings(self, settings: dict[str, Setting]) -> None:
        self.run.config.update(settings)

    def add(self, scalars: dict[str, float], step: int) -> None:
        self.run.log(scalars, step=step)

    def add_picture(self, name: str, picture: np.ndarray, step: int) -> None:
        import swanlab

        self.run.log({name: swanlab.Image(picture)}, step=step)

    def flush(self) -> None:
        """Do nothing: a thread of SwanLab writes."""

    def close(self, error: BaseException | None) -> None:
        if error is None:
            self.run.finish()
        elif isinstance(error, Stopped):
            self.run.finish("aborted")
        else:
            text = printable(without_secrets(str(error)))
            self.run.finish("crashed", error=f"{type(error).__name__}: {text}")
