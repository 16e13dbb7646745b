"""Modes of evaluation of a posterior on a stream.

* `mean`: the posterior mean.
* `average`: the average of the predictions of S samples, each held for the whole stream.
* `sharpened_bound`: the bound of a posterior sharpened on each window's own targets, its KL paid.
* `mean` and `sharpened_bound` with a `DynamicRule`: dynamic evaluation, in which the weights learn from every
  window once it has been scored; see `tfp_bayesrnn.model.dynamic_evaluation`.

Perplexity is exp of the negative log-likelihood per prediction, over every prediction of the stream.
Dimensions: B rows and T steps of a window, S samples, N predictions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from tfp_bayesrnn import checks, noise
from tfp_bayesrnn.model import dynamic_evaluation, recurrence, training
from tfp_bayesrnn.model.bayesian_model import BayesianModel
from tfp_bayesrnn.model.dynamic_evaluation import DynamicRule
from tfp_bayesrnn.noise import Stream
from tfp_bayesrnn.posterior.posterior import Draw
from tfp_bayesrnn.posterior.weights import VariationalWeight
from tfp_bayesrnn.prediction import averages

# A wrapper of an iteration that shows how far it has come.
Progress = Callable[[Iterable], Iterable]


class StreamScore(NamedTuple):
    """The score of a stream."""

    nll: float  # Nats per prediction.
    predictions: int

    @property
    def perplexity(self) -> float:
        """exp(nll); infinite where that overflows."""
        return _exp(self.nll)


class SharpenedBound(NamedTuple):
    """Estimate of an upper bound on a stream's negative log-likelihood: `nll` alone has seen the targets."""

    nll: float  # Nats per prediction, under theta.
    kl: float  # KL[q(theta | phi, window) || p(theta | phi)], nats per prediction.
    predictions: int
    nll_variance: float  # The variance over theta's noise of the summed NLL, in nats^2, to first order.

    @property
    def perplexity_bound(self) -> float:
        """exp(nll + kl); infinite where that overflows."""
        return _exp(self.nll + self.kl)

    @property
    def standard_error(self) -> float:
        """The standard error of `nll` over theta's noise, to first order in its scale."""
        return math.sqrt(self.nll_variance) / self.predictions


class _Window(NamedTuple):
    """The results of a window."""

    log_probabilities: np.ndarray  # Float64, one for each of its [B, T] predictions that counts.
    weights: np.ndarray  # Float64, for the same predictions; more than 0.
    kl: float  # The sharpening's, in nats.
    nll_variance: float  # Over the sharpening's noise, in nats^2.


class StreamEvaluator:
    """Scores streams under draws from a model's posterior, changing nothing of the model.

    It compiles one function for each mode of evaluation and keeps it, so make one evaluator and use it again.

    Datasets yield ({"inputs", "is_first"}, targets, weights), as a data stream does; where a weight is
    0, or the mask of the outputs false, there is no prediction. Scores are means by weight, as in `evaluate`.
    `progress` wraps the dataset, to show how far it has come.
    """

    def __init__(self, model: BayesianModel):
        """Takes the model whose posterior is evaluated, built.

        Raises:
          ValueError: if the model is not built: there would be no weights to draw.
        """
        if not model.built:
            raise ValueError(
                f"The model must be built before it is evaluated. Received: model={model.name!r}"
            )
        self.model = model
        self._function, self._squares = (
            tf.function(checks.collecting(function), jit_compile=model.use_jit(), autograph=False)
            for function in (self._window, self._add_squares)
        )

    def mean(
        self, dataset: Iterable, dynamic: DynamicRule | None = None, progress: Progress = iter
    ) -> StreamScore:
        """Returns the score under the posterior mean.

        Args:
          dataset: the stream to score; see the class.
          dynamic: the rule of dynamic evaluation, by which a copy of the weights moves after each window, so
            that each is scored by weights that have not seen it. None: the weights stay.
          progress: a wrapper of the dataset; see the class.
        """
        return _score(self._run(dataset, self.model.posterior.mean(), progress, dynamic=dynamic))

    def average(
        self, dataset: Iterable, samples: int, seed: int | None = None, progress: Progress = iter
    ) -> StreamScore:
        """Returns the score of the average of the predictive probabilities over S samples.

        Each sample is held for the whole stream. Memory does not grow with S.

        Args:
          dataset: the stream to score, iterated S times; see the class.
          samples: S, the number of samples.
          seed: the seed of the samples; None for the model's.
          progress: a wrapper of the dataset; see the class.
        """
        if samples < 1:
            raise ValueError(f"samples must be at least 1. Received: samples={samples}")
        return average_of_models([self], dataset, samples, seed, progress)

    def sharpened_bound(
        self,
        dataset: Iterable,
        dynamic: DynamicRule | None = None,
        seed: int | None = None,
        progress: Progress = iter,
    ) -> SharpenedBound:
        """The bound of the sharpened posterior with phi at the posterior mean, theta drawn for each window.

        By Jensen's inequality the expectation of `nll + kl` over theta's noise, of which this is one draw for
        each window, is not below the stream's negative log-likelihood under the hierarchical model, whose
        theta ~ p(theta | phi) is new in each window; it may be below that of the posterior mean, which is
        another model. The bound depends on the windows, B and T, and looks at a window's targets before it
        scores them: it says how well the hierarchical model fits, not how well it predicts.

        Args:
          dataset: the stream to score; see the class.
          dynamic: the rule of dynamic evaluation, as in `mean`; phi is what moves, by the gradient at theta.
          seed: the seed of theta's noise; None for the model's.
          progress: a wrapper of the dataset; see the class.

        Raises:
          ValueError: if the model has no sharpening.
        """
        if self.model.sharpening is None:
            raise ValueError(
                "The sharpened bound is of a model with BayesianModel(..., sharpening=...). "
                f"Received: model={self.model.name!r}, without"
            )
        seed = noise.derive(self._seed(seed), Stream.EVALUATION_SHARPENING)
        windows = list(self._run(dataset, self.model.posterior.mean(), progress, seed, dynamic))
        score, weight = _score(windows), sum(float(np.sum(window.weights)) for window in windows)
        kl, variance = (sum(parts) for parts in zip(*(window[2:] for window in windows), strict=True))
        return SharpenedBound(score.nll, kl / weight, score.predictions, variance)

    def log_probabilities(self, dataset: Iterable, draw: Draw, progress: Progress = iter) -> np.ndarray:
        """Returns the log-probability in nats, float64 [N], of every prediction of a stream, under one draw.

        Args:
          dataset: the stream to score; see the class.
          draw: the draw, held for the whole stream, its dropout masks too.
          progress: a wrapper of the dataset; see the class.
        """
        return _joined(self._run(dataset, draw, progress))[0]

    def mean_squares(
        self, dataset: Iterable, progress: Progress = iter
    ) -> dict[VariationalWeight, tf.Tensor]:
        """Returns the mean square of every element's gradient over windows, for `dynamic_evaluation.rms`.

        The gradient is that of a window's negative log-likelihood at the posterior mean, summed over time and
        averaged over rows.

        Args:
          dataset: windows of training; see the class.
          progress: a wrapper of the dataset; see the class.

        Raises:
          ValueError: if there is no window.
        """
        mean = self.model.posterior.mean()
        sums, count, state = [tf.zeros_like(value) for value in mean.values()], 0, None
        for data in progress(dataset):
            batch = training.unpack(data)
            state = self._first_state(batch) if state is None else state
            (sums, state), found = self._squares(sums, list(mean.values()), batch, state)
            sums, state = checks.enforce(found, (sums, state))
            count += 1
        if not count:
            raise ValueError("The mean squares of gradients need at least one window. Received: none")
        return {weight: total / count for weight, total in zip(mean, sums, strict=True)}

    def _draws(self, samples: int, seed: int | None) -> Iterator[Draw]:
        """The draws of an average; the mean for 0 samples."""
        root = noise.derive(self._seed(seed), Stream.EVALUATION_DRAWS)
        if not samples:
            yield self.model.posterior.mean()
        for sample in range(samples):
            yield self.model.posterior.sample(noise.derive(root, sample))

    def _first_state(self, batch: Any) -> Any:
        if batch.is_first is None:
            return None
        return recurrence.initial_state(self.model.network, batch.is_first.shape[0])

    def _seed(self, seed: int | None) -> tf.Tensor:
        return noise.make_seed(self.model.seed if seed is None else seed)

    def _run(
        self,
        dataset: Iterable,
        draw: Draw,
        progress: Progress,
        sharpening_seed: tf.Tensor | None = None,
        dynamic: DynamicRule | None = None,
    ) -> Iterator[_Window]:
        """Runs the network over a stream, the weights and the RNN state going on from window to window."""
        weights, state = self.model.posterior.weights, None
        trained = values = [draw[weight] for weight in weights]
        rule = None if dynamic is None else (trained, *dynamic.arguments(weights))
        for index, data in enumerate(progress(dataset)):
            batch = training.unpack(data)
            state = self._first_state(batch) if state is None else state
            seed = None if sharpening_seed is None else noise.derive(sharpening_seed, index)
            window, found = self._function(values, draw.seed, batch, state, seed, rule)
            nll, kl, variance, moved, state = checks.enforce(found, window)
            values = moved or values
            nats, weights = (one.numpy().ravel().astype(np.float64) for one in (nll.nats, nll.weights))
            counts = weights > 0.0
            yield _Window(-nats[counts], weights[counts], float(kl), float(variance))

    def _window(
        self,
        values: Sequence[tf.Tensor],
        mask_seed: tf.Tensor,
        batch: Any,
        state: Any,
        sharpening_seed: tf.Tensor,
        rule: tuple | None,
    ) -> Any:
        """Runs one window: NLL, what `_Window` has of the sharpening, values moved (or none), RNN state."""
        objective, moved = self.model.objective, []
        weights = phi = Draw(dict(zip(objective.posterior.weights, values, strict=True)), seed=mask_seed)
        kl = variance = tf.zeros([])
        if objective.sharpening is not None and sharpening_seed is not None:
            g, _ = training.likelihood_gradient(phi, objective, batch, state, training=False)
            weights, kl = objective.sharpening.sharpen(phi, g, sharpening_seed)
            variance = objective.sharpening.nll_variance(g)
        if rule is not None:
            g, forward = training.likelihood_gradient(weights, objective, batch, state, training=False)
            trained = Draw(dict(zip(phi, rule[0], strict=True)))
            moved = dynamic_evaluation.moved(phi, trained, g, forward.nll.rows, rule[1:])
        else:
            forward = training.run_under(weights, objective, batch, state, training=False)
        return forward.nll, kl, variance, moved, forward.state

    def _add_squares(self, sums: list, values: Sequence[tf.Tensor], batch: Any, state: Any) -> tuple:
        """Adds the squares of a window's gradients to `sums`; returns them and the RNN state."""
        objective = self.model.objective
        draw = Draw(dict(zip(objective.posterior.weights, values, strict=True)))
        g, forward = training.likelihood_gradient(draw, objective, batch, state, training=False)
        rows = tf.cast(forward.nll.rows, tf.float32)
        sums = [total + tf.square(g[weight] / rows) for total, weight in zip(sums, draw, strict=True)]
        return sums, forward.state


def average_of_models(
    evaluators: Sequence[StreamEvaluator],
    dataset: Iterable,
    samples: int = 0,
    seed: int | None = None,
    progress: Progress = iter,
) -> StreamScore:
    """Returns the score of an ensemble: the average of the predictive probabilities of several models.

    Args:
      evaluators: the models' evaluators, at least one; each model counts the same.
      dataset: the stream to score, iterated for each model and sample; see `StreamEvaluator`.
      samples: S, the number of samples of each model, held for the whole stream: of models with a posterior
        this is the mixture of their posteriors. 0 for the mean of each.
      seed: the seed of the samples; None for each model's own.
      progress: a wrapper of the dataset; see `StreamEvaluator`.
    """
    weights = np.zeros(0)

    def of_draws() -> Iterator[np.ndarray]:
        nonlocal weights
        for evaluator in evaluators:
            for draw in evaluator._draws(samples, seed):
                scores, weights = _joined(evaluator._run(dataset, draw, progress))
                yield scores

    average = averages.log_mean_exp(of_draws())
    return StreamScore(-_mean(average, weights), len(average))


def _joined(windows: Iterable[_Window]) -> tuple[np.ndarray, np.ndarray]:
    """Returns the log-probabilities of all windows, and their weights."""
    log_probabilities, weights, *_ = zip(*windows, strict=True)
    return np.concatenate(log_probabilities), np.concatenate(weights)


def _mean(values: np.ndarray, weights: np.ndarray) -> float:
    """Returns the weighted mean; where all weights are 1, it is the plain one to the bit."""
    return float(np.mean(values * (weights / np.mean(weights))))


def _score(windows: Iterable[_Window]) -> StreamScore:
    log_probabilities, weights = _joined(windows)
    return StreamScore(-_mean(log_probabilities, weights), len(log_probabilities))


def _exp(nats: float) -> float:
    return math.exp(nats) if nats < 700.0 else math.inf
