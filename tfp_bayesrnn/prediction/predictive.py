"""The predictive distribution of a Bayesian model as a value: what `BayesianModel.predictive` returns."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import ArrayLike

from tfp_bayesrnn import noise
from tfp_bayesrnn.objective import likelihoods
from tfp_bayesrnn.objective.likelihoods import BernoulliLikelihood, Likelihood
from tfp_bayesrnn.prediction import averages, mixtures, uncertainty
from tfp_bayesrnn.prediction.averages import Probabilities, Variances
from tfp_bayesrnn.prediction.uncertainty import Uncertainty

# From how many samples a quantile is taken where the distribution has no distribution function.
_SAMPLES = 1000


class Predictive:
    """The distribution of the targets of N rows: the average over S draws of the weights.

    >>> predictive = model.predictive(x, num_samples=50)
    >>> low, high = predictive.interval(0.95)
    >>> unsure = np.argsort(-predictive.epistemic())[:10]

    Every method returns a NumPy array, float32 where nothing else is said; [N, ...] is the shape of the
    targets. Draws are held together over the whole of a row, so a sample of a sequence is one that the
    network believes in as a whole; quantiles and intervals are those of each target by itself.

    Attributes:
      outputs: the network's outputs under each draw, float32 [S, N, ...].
      likelihood: the likelihood of the targets.
    """

    def __init__(self, outputs: ArrayLike, likelihood: Any, seed: int = 0):
        """Takes outputs, as `model.predictive` does for a model.

        Args:
          outputs: the network's outputs under each draw, [S, N, ...].
          likelihood: the likelihood, as `BayesianModel` takes it.
          seed: the seed of `sample`.
        """
        self.outputs = np.asarray(outputs, np.float32)
        self.likelihood: Likelihood = likelihoods.get(likelihood)
        self._seed = seed
        self._mixture = mixtures.Mixture(self.likelihood, self.outputs)
        self._parts: tuple[np.ndarray, Uncertainty] | None = None

    @property
    def num_samples(self) -> int:
        """S, the number of draws."""
        return len(self.outputs)

    def mean(self) -> np.ndarray:
        """The expected target, [N, ...]; of classes probabilities, [N, ..., V]; of zeros and ones that of 1.

        Raises:
          ValueError: if the likelihood is a function, which has no mean.
        """
        return self._averaged()[0]

    def total(self) -> np.ndarray:
        """The uncertainty, aleatoric + epistemic: the entropy in nats, or the variance, [N, ...]."""
        return self._averaged()[1].total

    def aleatoric(self) -> np.ndarray:
        """What would be left if the weights were known, [N, ...].

        Of classes it is the draws' mean entropy, in nats. Of real targets and counts it is the mean variance
        of the noise, in their squared units.
        """
        return self._averaged()[1].aleatoric

    def epistemic(self) -> np.ndarray:
        """What the weights leave open, [N, ...], at least 0.

        Of classes it is the mutual information with the weights, in nats. Of real targets and counts it is
        the variance of the draws' means, in their squared units. It grows away from the training data, which
        the noise need not do.
        """
        return self._averaged()[1].epistemic

    def entropy(self) -> np.ndarray:
        """The entropy of the average distribution of classes, nats [N, ...].

        Raises:
          ValueError: if targets are no classes.
        """
        self._check(self.likelihood.is_classes, "entropy", "stddev()")
        return self.total()

    def stddev(self) -> np.ndarray:
        """The standard deviation of a target, noise and weights together, [N, ...].

        Raises:
          ValueError: if targets are classes.
        """
        self._check(not self.likelihood.is_classes, "stddev", "entropy()")
        return np.sqrt(self.total())

    def interval(self, level: float = 0.95) -> tuple[np.ndarray, np.ndarray]:
        """The central interval that holds a target with the probability `level`: both ends, [N, ...].

        Args:
          level: the probability, above 0 and below 1; as much lies below the interval as above.

        Raises:
          ValueError: if it is not, or targets are classes.
        """
        if not 0.0 < level < 1.0:
            raise ValueError(f"level must be above 0 and below 1. Received: level={level}")
        low, high = self.quantile([0.5 - level / 2.0, 0.5 + level / 2.0])
        return low, high

    def quantile(self, q: ArrayLike) -> np.ndarray:
        """The quantile of the mixture over the draws: the least y with P(target <= y) >= q.

        It is exact to rounding. Where a distribution has no distribution function it is that of 1000 samples.

        Args:
          q: one probability, above 0 and below 1, or several.

        Returns:
          [N, ...]; for several, with their axis in front, as `np.quantile` has it.

        Raises:
          ValueError: if a probability is out of range, or targets are classes.
        """
        self._check(not self.likelihood.is_classes, "quantile", "mean() for the probabilities")
        levels = np.asarray(q, np.float64)
        if not np.all((levels > 0.0) & (levels < 1.0)):
            raise ValueError(f"q must be above 0 and below 1. Received: q={q!r}")
        flat = list(levels.ravel())
        try:
            found = self._mixture.quantiles(flat).numpy()
        except NotImplementedError:
            found = np.quantile(self.sample(_SAMPLES), flat, axis=0).astype(np.float32)
        return np.reshape(found, [*levels.shape, *found.shape[1:]])

    def cdf(self, y: ArrayLike) -> np.ndarray:
        """P(target <= y), [N, ...], of targets y [N, ...]: their probability integral transform.

        Raises:
          ValueError: if targets are classes.
        """
        self._check(not self.likelihood.is_classes, "cdf", "mean() for the probabilities")
        return self._mixture.cdf(self._aligned(y)[tf.newaxis])[0].numpy()

    def sample(self, n: int = 1, seed: int | None = None) -> np.ndarray:
        """Samples n sets of targets, [n, N, ...]; each set is of one draw of the weights, chosen at random.

        Args:
          n: the number of samples.
          seed: their seed; None for that of the draws. The same seed gives the same samples.
        """
        if n < 1:
            raise ValueError(f"n must be at least 1. Received: n={n}")
        return self._mixture.sample(n, noise.make_seed(self._seed if seed is None else seed))

    def log_prob(self, y: ArrayLike) -> np.ndarray:
        """The log-probability of targets, or its density, in nats, [N, ...]: of the average over the draws.

        Args:
          y: the targets, as `fit` takes them.

        Raises:
          ValueError: if they are not those of the likelihood.
        """
        targets = tf.convert_to_tensor(y)
        nats = [likelihoods.nats(self.likelihood, targets, tf.constant(one)) for one in self.outputs]
        return mixtures.log_prob(-tf.stack(nats)).numpy()

    def crps(self, y: ArrayLike, n: int = 256) -> np.ndarray:
        """The continuous ranked probability score of targets, in their units, 0 is best, [N, ...].

        Args:
          y: the targets, [N, ...].
          n: the number of samples that it is estimated from, without bias.
        """
        self._check(not self.likelihood.is_classes, "crps", "log_prob(y)")
        return uncertainty.crps_of_samples(self.sample(n), self._aligned(y)).astype(np.float32)

    def _aligned(self, y: ArrayLike) -> tf.Tensor:
        return self.likelihood.aligned(tf.convert_to_tensor(y), tf.constant(self.outputs[0]))

    def _averaged(self) -> tuple[np.ndarray, Uncertainty]:
        if self._parts is None:
            make: Callable = Probabilities if self.likelihood.is_classes else Variances
            mean, parts = averages.over(make(self.likelihood), self.outputs)
            mean = mean[..., 1] if isinstance(self.likelihood, BernoulliLikelihood) else mean
            self._parts = mean.numpy(), Uncertainty(*(part.numpy() for part in parts))
        return self._parts

    def _check(self, holds: bool, method: str, instead: str) -> None:
        if not holds:
            raise ValueError(
                f"{method} is not one of targets of this kind; accepted: {instead}. "
                f"Received: likelihood={self.likelihood!r}"
            )

    def __repr__(self) -> str:
        return f"Predictive(num_samples={self.num_samples}, likelihood={self.likelihood!r})"
