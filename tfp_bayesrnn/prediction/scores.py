"""What the predictive distribution of targets is worth: scores of one output, summed over minibatches."""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from tfp_bayesrnn.objective import free_energy as energies
from tfp_bayesrnn.objective.likelihoods import BernoulliLikelihood, CategoricalLikelihood, Likelihood
from tfp_bayesrnn.objective.outputs import Output
from tfp_bayesrnn.prediction import averages, mixtures, uncertainty
from tfp_bayesrnn.prediction.averages import Probabilities
from tfp_bayesrnn.prediction.mixtures import Mixture

LEVELS = (0.5, 0.8, 0.9, 0.95)
"""The central intervals whose coverage is reported."""

# From how many samples a CRPS is estimated, without bias.
_SAMPLES = 256


class PredictiveScores:
    """Scores under the average over S draws, each a mean over the predictions by their weights.

    Of classes they are `accuracy` and `ece`, the expected calibration error in 15 bins. Of real targets and
    counts they are `crps`, in units of the target, and `coverage_50` to `coverage_95`, the share of targets
    within the central interval of 50 % to 95 %. A function of the user's own has none of them.
    """

    def __init__(self) -> None:
        self.rows = self.total = self.predictions = 0.0
        self._sums: dict[str, float] = {}
        self._weights = 0.0
        self._confidence: list[np.ndarray] = []  # Confidence, correctness and weight of every prediction.

    def add(self, output: Output, seed: tf.Tensor) -> None:
        """Counts in a minibatch.

        Args:
          output: an output whose values are those under S draws, [S, B, ...].
          seed: the seed of samples that a score is estimated from, int32 [2].
        """
        samples, rows = output.values.shape[:2]
        nats, weights = self._log_likelihood(output, samples, rows)
        log_probs = mixtures.log_prob(-nats)
        self.total += float(-tf.reduce_sum(log_probs * weights))
        self.predictions += float(tf.reduce_sum(weights))
        self.rows += rows
        targets = output.likelihood.encoded(tf.convert_to_tensor(output.targets), output.values[0])
        targets = output.likelihood.aligned(targets, output.values[0])
        if isinstance(output.likelihood, CategoricalLikelihood | BernoulliLikelihood):
            self._add_classes(output.likelihood, output.values, targets, weights)
        elif output.likelihood.has_moments:
            self._add_numbers(output.likelihood, output.values, targets, weights, seed)

    def _log_likelihood(self, output: Output, samples: int, rows: int) -> tuple[tf.Tensor, tf.Tensor]:
        """Nats under each draw, [S, B, ...], and the weights of predictions, [B, ...]."""

        def repeated(value: Any) -> tf.Tensor | None:
            if value is None:
                return None
            value = tf.convert_to_tensor(value)
            return tf.tile(value, [samples] + [1] * (value.shape.rank - 1))

        flat = tf.reshape(output.values, [samples * rows, *output.values.shape[2:]])
        nll = energies.negative_log_likelihood(
            output.likelihood, repeated(output.targets), flat, repeated(output.weights), repeated(output.mask)
        )
        nats, weights = (tf.reshape(one, [samples, rows, *one.shape[1:]]) for one in (nll.nats, nll.weights))
        return nats, weights[0]

    def _add_classes(
        self,
        likelihood: CategoricalLikelihood | BernoulliLikelihood,
        values: tf.Tensor,
        targets: tf.Tensor,
        weights: tf.Tensor,
    ) -> None:
        probabilities, _ = averages.over(Probabilities(likelihood), values)
        predicted = tf.argmax(probabilities, axis=-1)
        if isinstance(likelihood, BernoulliLikelihood):
            targets = tf.cast(targets, tf.float32) > 0.5  # As Keras's binary accuracy takes probabilities.
        correct = predicted == tf.cast(targets, predicted.dtype)
        parts = (tf.reduce_max(probabilities, axis=-1), tf.cast(correct, tf.float32), weights)
        counted = np.stack([np.ravel(np.broadcast_to(part, correct.shape)) for part in parts])
        self._confidence.append(counted[:, counted[2] > 0.0])

    def _add_numbers(
        self,
        likelihood: Likelihood,
        values: tf.Tensor,
        targets: tf.Tensor,
        weights: tf.Tensor,
        seed: tf.Tensor,
    ) -> None:
        mixture, targets = Mixture(likelihood, values), tf.cast(targets, tf.float32)
        samples = mixture.sample(_SAMPLES, seed)
        below, up_to = _around(mixture, likelihood.is_discrete, samples, targets)
        scores = {"crps": uncertainty.crps_of_samples(samples, targets)}
        for level in LEVELS:
            # Within [Q(low), Q(high)], whose ends belong to it: P(Y <= y) >= low and P(Y < y) < high.
            low, high = 0.5 - level / 2.0, 0.5 + level / 2.0
            scores[f"coverage_{level * 100:.0f}"] = tf.cast((up_to >= low) & (below < high), tf.float32)
        while weights.shape.rank < targets.shape.rank:  # Several numbers may belong to one target.
            weights = weights[..., tf.newaxis]
        weights = tf.broadcast_to(weights, targets.shape)
        self._weights += float(tf.reduce_sum(weights))
        for name, score in scores.items():
            counted = tf.where(weights == 0.0, 0.0, score) * weights
            self._sums[name] = self._sums.get(name, 0.0) + float(tf.reduce_sum(counted))

    def result(self) -> dict[str, float]:
        """The scores so far."""
        found = {name: value / self._weights for name, value in self._sums.items()}
        if self._confidence:
            confidence, correct, weights = np.concatenate(self._confidence, axis=1)
            found["accuracy"] = float(np.average(correct, weights=weights))
            found["ece"] = uncertainty.expected_calibration_error(np.minimum(confidence, 1.0), correct)
        return found


def _around(
    mixture: Mixture, is_discrete: bool, samples: np.ndarray, targets: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """P(Y < y) and P(Y <= y) of the mixture, from its samples where it has no distribution function."""
    try:
        if not is_discrete:
            (up_to,) = tf.unstack(mixture.cdf(targets[tf.newaxis]))
            return up_to, up_to
        below, up_to = tf.unstack(mixture.cdf(tf.stack([targets - 1.0, targets])))
        return below, up_to
    except NotImplementedError:
        below, up_to = (
            tf.reduce_mean(tf.cast(compared, tf.float32), axis=0)
            for compared in (samples < targets, samples <= targets)
        )
        return below, up_to
