"""Early stopping that a resume does not forget."""

from typing import Any

from mmengine.hooks import EarlyStoppingHook
from mmseg.registry import HOOKS


@HOOKS.register_module()
class ResumableEarlyStoppingHook(EarlyStoppingHook):
    """MMEngine's ``EarlyStoppingHook``, with its patience in the checkpoint; a run that it ended stays ended."""

    _stopped = False

    def state_dict(self) -> dict[str, Any]:
        """Return the best score, the validations without a better one, and whether that was enough."""
        return {'best_score': float(self.best_score), 'wait_count': self.wait_count, 'stopped': self._stopped}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take them over."""
        self.best_score, self.wait_count = state['best_score'], state['wait_count']
        self._stopped = state['stopped'] and self.wait_count >= self.patience  # a longer patience goes on

    def before_train(self, runner: Any) -> None:
        """Train nothing when the run was over."""
        if self._stopped:
            runner.train_loop.stop_training = True
            runner.logger.info(f'this run was stopped early at iteration {runner.iter}: nothing is left to train')

    def after_val_epoch(self, runner: Any, metrics: dict[str, float]) -> None:
        """Decide whether to stop."""
        super().after_val_epoch(runner, metrics)
        self._stopped = runner.train_loop.stop_training
