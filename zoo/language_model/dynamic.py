"""The rule of dynamic evaluation that a configuration asks for."""

from __future__ import annotations

import itertools

import numpy as np

from tfp_bayesrnn.model.dynamic_evaluation import DynamicRule, by_posterior, rms, sgd
from tfp_bayesrnn.model.evaluation import StreamEvaluator
from zoo.data.windows import evaluation_windows
from zoo.language_model.configuration import Evaluation
from zoo.terminal import progress

WINDOWS = 500
"""From how many windows of the training text the size of gradients is known, at most."""

WEIGHTS = {
    "sgd": "mean, SGD after every window",
    "rms": "mean, a step normalised by the gradients of training after every window",
    "posterior": "mean, a step in proportion to the posterior's variances after every window",
}
"""What the weights are, by the rule that they follow."""


def rule_of(settings: Evaluation, evaluator: StreamEvaluator, train: np.ndarray) -> DynamicRule | None:
    """The rule; None where there is no dynamic evaluation.

    Args:
      settings: the settings of evaluation.
      evaluator: the evaluator of the model, whose variables are those of the checkpoint to be scored.
      train: the ids of the training text, whose gradients the rule "rms" is normalised by: those of windows
        of the rows and steps that are scored.
    """
    rate, decay = settings.dynamic_learning_rate, settings.dynamic_decay
    if not rate:
        return None
    if settings.dynamic_rule == "posterior":
        return by_posterior(rate, decay, evaluator.model.posterior)
    if settings.dynamic_rule == "rms":
        windows = evaluation_windows(train, settings.rows, settings.unroll)
        first = list(itertools.islice(windows.dataset(), WINDOWS))
        return rms(rate, decay, evaluator.mean_squares(first, progress.batches("gradients of training")))
    return sgd(rate)
