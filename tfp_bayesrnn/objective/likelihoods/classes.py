"""Likelihoods of classes: categorical and Bernoulli."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf
from tensorflow_probability import distributions as tfd

from tfp_bayesrnn import checks
from tfp_bayesrnn.objective.likelihoods import shapes
from tfp_bayesrnn.objective.likelihoods.likelihood import Likelihood
from tfp_bayesrnn.objective.metrics import ClassAccuracy


@keras.saving.register_keras_serializable("tfp_bayesrnn")
class CategoricalLikelihood(Likelihood):
    """Integer classes [...], of outputs [..., V] with V at least 2: logits, or probabilities.

    Targets of the shape of the outputs are the same classes, one-hot.
    """

    is_discrete = is_classes = True

    def __init__(self, ignore_class: int | None = None, from_logits: bool = True):
        """Takes what the two arguments of Keras's `SparseCategoricalCrossentropy` say.

        Args:
          ignore_class: a class of targets that are no predictions, such as -1 for padding; None for none.
          from_logits: whether outputs are logits; else they are probabilities, as of a softmax.

        Raises:
          ValueError: if an argument is none of those.
        """
        if ignore_class is not None and (isinstance(ignore_class, bool) or ignore_class != int(ignore_class)):
            raise ValueError(f"ignore_class must be a whole number. Received: ignore_class={ignore_class!r}")
        self.ignore_class = None if ignore_class is None else int(ignore_class)
        self.from_logits = bool(from_logits)
        self.refused_activations = frozenset({"softmax", "sigmoid"} if from_logits else ())

    def logits(self, outputs: tf.Tensor) -> tf.Tensor:
        """Logits [..., V], float32, of the network's outputs."""
        return outputs if self.from_logits else _log(outputs, type(self).__name__)

    def log_probs(self, outputs: tf.Tensor) -> tf.Tensor:
        """The logarithms of the probabilities of all classes, [..., V], float32."""
        return tf.nn.log_softmax(self.logits(tf.cast(outputs, tf.float32)))

    def distribution(self, outputs: tf.Tensor) -> tfd.Distribution:
        """The categorical distribution."""
        return tfd.Categorical(self.logits(outputs), dtype=tf.int32)

    def mean(self, outputs: tf.Tensor) -> tf.Tensor:
        """The probabilities, [..., V]."""
        return tf.nn.softmax(self.logits(tf.cast(outputs, tf.float32)))

    def averaged(self, outputs: tf.Tensor) -> tf.Tensor:
        """Outputs of the same kind, logits or probabilities, of the average distribution."""
        average = tf.reduce_mean(self.mean(outputs), axis=0)
        return tf.math.log(average) if self.from_logits else average

    def __call__(self, targets: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
        """The negative log-likelihood [...] of integer classes [...], in nats.

        Raises:
          ValueError: if the targets have another shape, or the outputs are of a single class.
        """
        if not targets.shape.is_compatible_with(outputs.shape[:-1]):
            raise ValueError(
                "Targets of a categorical likelihood are integer classes, of the shape of the logits without "
                "the last axis. "
                f"Received: targets of shape {targets.shape}, logits of shape {outputs.shape}"
            )
        logits = self.logits(outputs)
        return tf.nn.sparse_softmax_cross_entropy_with_logits(tf.cast(targets, tf.int32), logits)

    def encoded(self, targets: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
        """The classes of one-hot targets; -1, which is none, for what has not a single 1 among zeros."""
        if not shapes.has_classes_on_last_axis(targets, outputs):
            return targets
        zeros, ones = (tf.reduce_sum(tf.cast(targets == value, tf.int32), -1) for value in (0, 1))
        is_one_hot = (ones == 1) & (zeros == tf.shape(targets)[-1] - 1)
        return tf.where(is_one_hot, tf.argmax(targets, -1, tf.int32), -1)

    def aligned(self, targets: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
        """The targets without an axis of 1 at their end, where the outputs ask for that."""
        return shapes.with_axes_of(outputs.shape[:-1], targets)

    def check_outputs(self, outputs: tf.Tensor) -> None:
        """Raises `ValueError` if the outputs are of a single class."""
        if outputs.shape[-1] == 1:
            raise ValueError(
                "A categorical likelihood is one of at least 2 classes: with a single one every prediction "
                "is certain. For real targets choose BayesianModel(..., likelihood=NormalLikelihood(scale)), "
                f"for zeros and ones likelihood='bernoulli'. Received: outputs of shape {outputs.shape}"
            )

    def checked(self, targets: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
        """The targets, which must be whole numbers among the classes of the outputs."""
        if outputs.shape[-1] is None:
            return targets
        last = outputs.shape[-1] - 1
        accepted = f"Targets of a categorical likelihood are classes, whole numbers from 0 to {last}"
        classes = checks.within(_exact(targets), 0, last, accepted, whole=True)
        # What is not accepted ends the step; it must not end the computation before that is said.
        return tf.where((classes >= 0) & (classes <= last), classes, tf.zeros_like(classes))

    def counted(self, targets: tf.Tensor) -> tf.Tensor | None:
        """Which targets are not of the class to ignore."""
        if self.ignore_class is None:
            return None
        return tf.not_equal(targets, tf.cast(self.ignore_class, targets.dtype))

    def metric(self, name: str) -> Any:
        """The accuracy of classes, integers or one-hot, for "accuracy"."""
        return ClassAccuracy(name) if name in ("accuracy", "acc") else name

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"ignore_class": self.ignore_class, "from_logits": self.from_logits}


@keras.saving.register_keras_serializable("tfp_bayesrnn")
class BernoulliLikelihood(Likelihood):
    """Zeros and ones [...], or probabilities in between, of outputs [...]: logits or probabilities of a 1."""

    is_discrete = is_classes = True

    def __init__(self, from_logits: bool = True):
        """Takes whether outputs are logits; else they are probabilities, as of a sigmoid."""
        self.from_logits = bool(from_logits)
        self.refused_activations = frozenset({"softmax", "sigmoid"} if from_logits else ())

    def logits(self, outputs: tf.Tensor) -> tf.Tensor:
        """Logits of a 1, [...], float32, of the network's outputs."""
        if self.from_logits:
            return outputs
        log_ones = _log(outputs, type(self).__name__)
        return log_ones - _log(1.0 - outputs, type(self).__name__)

    def log_probs(self, outputs: tf.Tensor) -> tf.Tensor:
        """The logarithms of the probabilities of 0 and 1, [..., 2], float32."""
        logits = self.logits(tf.cast(outputs, tf.float32))
        return tf.math.log_sigmoid(tf.stack([-logits, logits], axis=-1))

    def distribution(self, outputs: tf.Tensor) -> tfd.Distribution:
        """The Bernoulli distribution."""
        return tfd.Bernoulli(self.logits(outputs), dtype=tf.int32)

    def mean(self, outputs: tf.Tensor) -> tf.Tensor:
        """The probability of a 1, [...]."""
        return tf.sigmoid(self.logits(tf.cast(outputs, tf.float32)))

    def averaged(self, outputs: tf.Tensor) -> tf.Tensor:
        """Outputs of the same kind, logits or probabilities, of the average distribution."""
        ones = tf.reduce_mean(self.mean(outputs), axis=0)
        if not self.from_logits:
            return ones
        return tf.math.log(ones) - tf.math.log(tf.reduce_mean(self.mean(-outputs), axis=0))

    def __call__(self, targets: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
        """The negative log-likelihood [...] of zeros and ones [...], in nats.

        Raises:
          ValueError: if the targets have another shape.
        """
        targets = shapes.like(targets, outputs.shape, outputs)
        return tf.nn.sigmoid_cross_entropy_with_logits(targets, self.logits(outputs))

    def checked(self, targets: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
        """The targets, which must lie between 0 and 1."""
        del outputs
        accepted = "Targets of a Bernoulli likelihood are 0 or 1, or probabilities in between"
        return checks.within(_exact(targets), 0, 1, accepted)

    def metric(self, name: str) -> Any:
        """Keras's metrics of zeros and ones, whose thresholds are logits where the outputs are."""
        threshold = 0.0 if self.from_logits else 0.5
        found = {
            "accuracy": lambda: keras.metrics.BinaryAccuracy(name, threshold=threshold),
            "precision": lambda: keras.metrics.Precision(thresholds=threshold, name=name),
            "recall": lambda: keras.metrics.Recall(thresholds=threshold, name=name),
            "auc": lambda: keras.metrics.AUC(from_logits=self.from_logits, name=name),
        }
        known = {**found, "acc": found["accuracy"], "binary_accuracy": found["accuracy"]}
        return known[name.lower()]() if name.lower() in known else name

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {"from_logits": self.from_logits}


def _exact(targets: tf.Tensor) -> tf.Tensor:
    """The targets in a type that has whole numbers, and whatever they are compared to."""
    if targets.dtype.is_floating:
        return targets if targets.dtype == tf.float64 else tf.cast(targets, tf.float32)
    return tf.cast(targets, tf.int64)


def _log(probabilities: tf.Tensor, name: str) -> tf.Tensor:
    """The logarithms, with those nearest 0 and 1 moved in as Keras's losses move them."""
    epsilon = keras.config.epsilon()
    accepted = f"Outputs of {name}(from_logits=False) are probabilities, from 0 to 1"
    # Rounding may leave a softmax a little above 1.
    checked = checks.within(probabilities, 0.0, 1.0 + 1e-3, accepted)
    return tf.math.log(tf.clip_by_value(checked, epsilon, 1.0 - epsilon))
