"""The predictive distribution of a Bayesian model, and how sure it is: `tfp_bayesrnn.predictive`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfp_bayesrnn import noise
from tfp_bayesrnn.objective import likelihoods
from tfp_bayesrnn.objective import outputs as outputs_of
from tfp_bayesrnn.prediction.averages import Moments, Probabilities


@dataclass(frozen=True, eq=False)
class Predictive:
    """A model's predictions, and the parts of their uncertainty: total = aleatoric + epistemic.

    Attributes:
      mean: the predictions, float32: for a categorical likelihood the class probabilities [..., V]; for a
        Bernoulli likelihood the probability of a 1, [...]; for a `NormalLikelihood` the expected target
        [...].
      total: the total uncertainty, float32 [...]: in nats, the entropy of the average distribution; for a
        `NormalLikelihood`, in squared units of the target, the variance of a target.
      aleatoric: the uncertainty that would be left if the weights were known: the draws' mean entropy, or the
        variance of the noise. In the units of `total`.
      epistemic: the uncertainty that the weights leave open: the mutual information of class and weights, or
        the variance of the draws' means. In the units of `total`, and at least 0.
    """

    mean: np.ndarray
    total: np.ndarray
    aleatoric: np.ndarray
    epistemic: np.ndarray


def predictive(
    model: Any, x: Any, samples: int = 10, seed: int | None = None, batch_size: int | None = None
) -> Any:
    """Averages a model's predictions over draws of its weights, and finds the parts of their uncertainty.

    >>> found = tfp_bayesrnn.predictive(model, images, samples=20)
    >>> unsure = images[np.argsort(-found.epistemic)[:10]]

    Args:
      model: a `BayesianModel`, built, with a categorical, Bernoulli or normal likelihood.
      x: the inputs that `model.predict` takes; iterated S times.
      samples: S. Draws of a model without distributions and without this library's dropout are all the mean.
      seed: the seed of the draws, which are those of `StreamEvaluator.average`; None for the model's.
      batch_size: the number of rows in a minibatch; see `model.predict`.

    Returns:
      A `Predictive`; for a network with several outputs, one for each in their structure, and None for an
      output without a likelihood.

    Raises:
      ValueError: if there is fewer than 1 sample, or the likelihood's uncertainty has no such parts.
    """
    if isinstance(samples, bool) or not isinstance(samples, int | np.integer) or samples < 1:
        raise ValueError(f"samples must be an integer of at least 1. Received: samples={samples!r}")
    root = noise.derive(noise.make_seed(model.seed if seed is None else seed), noise.Stream.EVALUATION_DRAWS)
    kinds: list[_Kind | None] = []
    sums: list[Any] = []
    for sample in range(samples):
        draw = model.posterior.sample(noise.derive(root, sample))
        outputs = model.predict(x, batch_size=batch_size, verbose=0, draw=draw)
        if not kinds:
            names = getattr(model, "output_names", None)
            found = outputs_of.spread("likelihood", model.likelihood, outputs, names, shared=True)
            kinds = [_Kind.of(likelihood) for likelihood in found]
            sums = [None] * len(kinds)
        flat = zip(kinds, sums, keras.tree.flatten(outputs), strict=True)
        sums = [kind and kind.add(so_far, output) for kind, so_far, output in flat]
    finished = [kind and kind.finish(one, samples) for kind, one in zip(kinds, sums, strict=True)]
    return keras.tree.pack_sequence_as(outputs, finished)


class _Kind:
    """The way in which a likelihood's predictions are averaged."""

    def __init__(self, likelihood: Any):
        self._likelihood = likelihood
        is_normal = isinstance(likelihood, likelihoods.NormalLikelihood)
        self._average = Moments() if is_normal else Probabilities(likelihood)

    @classmethod
    def of(cls, likelihood: Any) -> _Kind | None:
        if likelihood is None:
            return None
        known = likelihood in (likelihoods.categorical, likelihoods.bernoulli)
        if not known and not isinstance(likelihood, likelihoods.NormalLikelihood):
            raise ValueError(
                "predictive knows the parts of the uncertainty of the likelihoods 'categorical', 'bernoulli' "
                "and NormalLikelihood; for another, average model.predict(x, draw=draw) over draws of "
                f"model.posterior.sample(seed). Received: likelihood={likelihood!r}"
            )
        return cls(likelihood)

    def add(self, sums: Any, output: Any) -> Any:
        return self._average.add(sums, tf.convert_to_tensor(output))

    def finish(self, sums: Any, samples: int) -> Predictive:
        if isinstance(self._average, Moments):  # The law of total variance, for the mixture of the draws.
            mean, squares = self._average.finish(sums)
            epistemic = squares / samples
            aleatoric = tf.fill(tf.shape(mean), self._likelihood.scale**2)
            parts = (aleatoric + epistemic, aleatoric, epistemic)
        else:
            mean, parts = self._average.finish(sums, samples)
            if self._likelihood is likelihoods.bernoulli:
                mean = mean[..., 1]
        return Predictive(mean.numpy(), *(part.numpy() for part in parts))
