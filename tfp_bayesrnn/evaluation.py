"""Evaluation of a posterior on a stream: the mean, or the average over samples.

Perplexity is exp of the negative log-likelihood per prediction, over every prediction of the stream.
Dimensions: S samples, N predictions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from tfp_bayesrnn import noise, recurrence, training
from tfp_bayesrnn.model import BayesianModel
from tfp_bayesrnn.posterior import Draw

# The draws of evaluation share no seed with those of training.
_EVALUATION = -1


class StreamScore(NamedTuple):
    """The score of a stream."""

    nll: float  # Nats per prediction.
    predictions: int

    @property
    def perplexity(self) -> float:
        """exp(nll); infinite where that overflows."""
        return math.exp(self.nll) if self.nll < 700.0 else math.inf


class StreamEvaluator:
    """Scores streams under draws from a model's posterior, changing nothing of the model.

    It compiles one function and keeps it, so make one evaluator and use it again.
    """

    def __init__(self, model: BayesianModel):
        """Args: the model whose posterior is evaluated, built.

        Raises:
          ValueError: if it is not built: there would be no weights to draw.
        """
        if not model.built:
            raise ValueError(
                f"The model must be built before it is evaluated. Received: model={model.name!r}"
            )
        self.model = model
        self._function = tf.function(self._nats, jit_compile=model.use_jit())

    def _nats(self, values, seed, inputs, is_first, targets, state):
        """Negative log-likelihood [B, T] of one window under one draw, and the state after it."""
        draw = Draw(dict(zip(self.model.posterior.weights, values, strict=True)), seed=seed)
        with draw.in_force():
            outputs, state = self.model.run(inputs, is_first, state, training=False)
        return self.model.likelihood(targets, tf.cast(outputs, tf.float32)), state

    def log_probabilities(
        self, dataset: Iterable, draw: Draw, progress: Callable[[Iterable], Iterable] = iter
    ) -> np.ndarray:
        """Log-probability in nats, float64 [N], of every prediction of a stream, under one draw.

        Args:
          dataset: of ({"inputs", "is_first"}, targets, weights) as a data stream yields them; where a weight
            is 0 there is no prediction.
          draw: held for the whole stream, its dropout masks too.
          progress: wraps the dataset, to show how far it has come.
        """
        values = [draw[weight] for weight in self.model.posterior.weights]
        scores, state = [], None
        for data in progress(dataset):
            batch = training.unpack(data)
            if state is None and batch.is_first is not None:
                state = recurrence.initial_state(self.model.network, batch.is_first.shape[0])
            nats, state = self._function(
                values, draw.seed, batch.inputs, batch.is_first, batch.targets, state
            )
            nats = nats.numpy()
            kept = np.ones(nats.shape, bool) if batch.weights is None else np.asarray(batch.weights) > 0
            scores.append(-nats[kept].astype(np.float64))
        return np.concatenate(scores)

    def mean(self, dataset: Iterable, **kwargs) -> StreamScore:
        """The score under the posterior mean."""
        return _score(self.log_probabilities(dataset, self.model.posterior.mean(), **kwargs))

    def average(self, dataset: Iterable, samples: int, seed: int | None = None, **kwargs) -> StreamScore:
        """The score of the average of the predictive probabilities over S samples.

        Each sample is held for the whole stream. Memory does not grow with S.

        Args:
          dataset: as for `log_probabilities`; iterated S times.
          samples: S.
          seed: of the samples; None for the model's.
          **kwargs: of `log_probabilities`.
        """
        if samples < 1:
            raise ValueError(f"samples must be at least 1. Received: samples={samples}")
        root = noise.make_seed(self.model.seed if seed is None else seed)
        total = None
        for sample in range(samples):
            draw = self.model.posterior.sample(noise.derive(root, _EVALUATION, sample))
            scores = self.log_probabilities(dataset, draw, **kwargs)
            total = scores if total is None else np.logaddexp(total, scores)
        return _score(total - math.log(samples))


def _score(log_probabilities: np.ndarray) -> StreamScore:
    return StreamScore(-float(np.mean(log_probabilities)), len(log_probabilities))
