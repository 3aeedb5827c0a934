"""Scores of the evaluations of a run so far: the best, the last, and whether the run ends early."""

from ugs_jax.experiment.config import Experiment
from ugs_jax.report import evaluations_since_best, out_of_patience

Scores = dict[str, float | None]


class ScoreHistory:
    """Scores of the evaluations of a run so far. All processes note the same scores, and so decide alike.

    Attributes:
      best: Scores of the evaluation with the highest AP; empty before the first evaluation.
      best_step: Step of that evaluation.
      last: Scores of the last evaluation; empty before the first one.
    """

    def __init__(self, experiment: Experiment) -> None:
        self._experiment = experiment
        self._evaluations: list[Scores] = []
        self.best: Scores = {}
        self.best_step = 0
        self.last: Scores = {}

    def note(self, step: int, scores: Scores) -> bool:
        """Add the scores of an evaluation, and return True if they are the best so far."""
        self.last = scores
        self._evaluations.append(scores)
        improved = evaluations_since_best(self._evaluations) == 0
        if improved:
            self.best, self.best_step = scores, step
        return improved

    @property
    def out_of_patience(self) -> bool:
        """True if the run ends early."""
        return out_of_patience(self._evaluations, self._experiment.patience)

    def early_end(self, step: int, steps_per_epoch: int) -> str:
        """Return the sentence that says why a run ended at a step, and how to continue."""
        now, best = (f"{count / steps_per_epoch:g}" for count in (step, self.best_step))
        waited, plan = evaluations_since_best(self._evaluations), self._experiment
        return (
            f"{plan.name}: ended at epoch {now} of {plan.epochs}: AP was not better for {waited} "
            f"{'evaluation' if waited == 1 else 'evaluations'} (patience {plan.patience}). The best was at epoch "
            f"{best}. To continue, add --resume and a larger --patience"
        )
