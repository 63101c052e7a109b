"""The visualisation backend that mirrors a run to Weights & Biases."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.visualization import BaseVisBackend
from mmseg.registry import VISBACKENDS

from projects.engine.experiment import experiment_of, run_id
from projects.engine.tracking.history import training_row, validation_row
from projects.engine.tracking.session import Names, Session


@VISBACKENDS.register_module()
class TerraceWandbBackend(BaseVisBackend):
    """Mirror what the visualizer is given to a run of Weights & Biases.

    The project is the task, the group the chain, the job type the stage; the id is that of the work directory, so
    that a resume goes on in the same run. Every row holds its iteration as ``iter``, which all else is drawn against.
    The run is opened when there is something to send. With ``WANDB_MODE=disabled`` nothing is even imported.

    Args:
        save_dir: ``WORK_DIR/<timestamp>/vis_data``; the visualizer gives it.
        project: Default ``WANDB_PROJECT``, else the task.
        finish_timeout: Seconds to wait for uploads at the end of a run.
    """

    def __init__(self, save_dir: str, project: str | None = None, finish_timeout: float = 60.0) -> None:
        super().__init__(save_dir)
        self.project, self.finish_timeout = project, finish_timeout
        self.work_dir = Path(save_dir).parents[1]
        self.session: Session | None = None
        self.iteration: int | None = None  # of a validation; the hook sets it, as its line holds no iteration
        self.epoch: int | None = None
        self.kept_open = False  # the hook ends the run, with its status
        self._config: Config | None = None
        self._extras: dict[str, Any] = {}

    @property
    def experiment(self) -> Any:
        """The run of W&B; None where there is none."""
        return self.session.run if self.session else None

    def _init_env(self) -> None:
        self.start()

    def start(self, send_config: bool = True, send_missing: bool = True) -> Session:
        """Open the run, once."""
        if self.session is None:
            config = self._config or Config()
            found = experiment_of(config)
            # An agent of a sweep gives the run its id; the sweep knows it by that.
            run = os.environ.get('WANDB_RUN_ID') if os.environ.get('WANDB_SWEEP_ID') else None
            self.session = Session(self.work_dir, Names(
                id=run or run_id(self.work_dir), group=found.chain, job_type=found.stage, name=found.name,
                tags=found.tags, project=self.project or os.environ.get('WANDB_PROJECT') or found.task,
            ), self.finish_timeout)
            self.session.start(config.to_dict() if send_config else None, send_missing=send_missing)
        return self.session

    def add_config(self, config: Config, **_: Any) -> None:
        """Keep the config for the start of the run."""
        self._config = config

    def attach(self, extras: Mapping[str, Any]) -> None:
        """Add tables and plots to the next validation row."""
        self._extras.update(extras)

    def wants_validation(self, iteration: int, epoch: int | None) -> bool:
        """Say whether the row of a validation would be sent: whether a table for it is worth drawing."""
        return self.start().is_new(validation_row({'any': 0}, iteration, epoch))

    def add_scalars(self, scalar_dict: dict, step: int = 0, file_path: str | None = None, **_: Any) -> None:
        """Send a line of the logger: a training line holds ``iter``, a validation line does not."""
        if 'iter' in scalar_dict:
            self.start().log(training_row(scalar_dict))
            return
        row = validation_row(scalar_dict, step if self.iteration is None else self.iteration, self.epoch)
        extras, self._extras = self._extras, {}
        self.start().log(row | extras)

    def add_scalar(self, name: str, value: Any, step: int = 0, **_: Any) -> None:
        """Send one value."""
        self.start().log({name: value, 'iter': step})

    def add_image(self, name: str, image: np.ndarray, step: int = 0, **_: Any) -> None:
        """Send one picture ``(H, W, 3)`` RGB uint8."""
        if self.start().run is not None:
            import wandb

            self.session.log({name: wandb.Image(image), 'iter': step})

    def close(self) -> None:
        """End the run, unless the hook will."""
        if self.session is not None and not self.kept_open:
            self.session.finish()
