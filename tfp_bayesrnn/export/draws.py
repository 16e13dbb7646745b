"""Draws of exported weights in a graph, of which the number is an input: what a network predicts under them.

A network that goes on from call to call has a state of its own for each draw. States here are nests of
tensors [N, S, ...]: N rows, S draws, so that `zoo.decoding.decoding` can take them as those of rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tfp_bayesrnn import noise
from tfp_bayesrnn.posterior.posterior import Draw
from tfp_bayesrnn.prediction.uncertainty import TargetScores

State = Any
Run = Callable[[Draw, State], tuple[tf.Tensor, State]]
"""From a draw and the state under it to logits, float32 [N, ..., V], and the new state."""


def check_samples(num_samples: tf.Tensor) -> tf.Tensor:
    """The number of samples; a call of the graph ends with an error where it is less than 1."""
    message = "num_samples must be at least 1. Received: num_samples ="
    with tf.control_dependencies([tf.debugging.Assert(num_samples >= 1, [message, num_samples])]):
        return tf.identity(num_samples)


class MeanDraw:
    """The posterior mean, as the one draw there is."""

    def __init__(self, exported):
        """Args: an `ExportedPosterior`."""
        self._draw = exported.mean()

    def start(self, make: Callable[[Draw], State]) -> State:
        """The states [N, 1, ...] that `make` gives."""
        return tf.nest.map_structure(lambda value: value[:, tf.newaxis], make(self._draw))

    def predict(self, run: Run, states: State, shape: tf.Tensor) -> tuple[tf.Tensor, State]:
        """The log-probabilities of what `run` predicts, of the given shape, and the new states."""
        del shape
        logits, states = self._run(run, states)
        return tf.nn.log_softmax(logits), states

    def score(self, run: Run, states: State, targets: tf.Tensor, classes: int) -> tuple[TargetScores, State]:
        """What `run` thinks of the targets, int32 [N, T], and the new states."""
        del classes
        logits, states = self._run(run, states)
        _, chosen, entropy = _judged(logits, targets)
        return TargetScores(chosen, entropy, tf.zeros_like(entropy)), states

    def _run(self, run: Run, states: State) -> tuple[tf.Tensor, State]:
        logits, state = run(self._draw, tf.nest.map_structure(lambda value: value[:, 0], states))
        return logits, tf.nest.map_structure(lambda value: value[:, tf.newaxis], state)


class FreshDraws:
    """Draws that are made anew whenever they are used: the memory is that of one, whatever their number.

    Draw s is that of the seed `derive(root, s)`.
    """

    def __init__(self, exported, num_samples: tf.Tensor, root: tf.Tensor):
        """Args: an `ExportedPosterior` with scales; S, int32; a seed, int32 [2]."""
        self._exported = exported
        self.num_samples = num_samples
        self._root = root

    def draw(self, place: tf.Tensor | int) -> Draw:
        """The draw of this number."""
        return self._exported.sample(noise.derive(self._root, place))

    def start(self, make: Callable[[Draw], State]) -> State:
        """The states [N, S, ...] that `make` gives under each draw."""
        structure = _structure(lambda: make(self.draw(0)))

        def body(place, written):
            return place + 1, _write(written, place, make(self.draw(place)))

        _, written = self._loop(body, self._arrays(structure))
        return _stacked(written, structure)

    def predict(self, run: Run, states: State, shape: tf.Tensor) -> tuple[tf.Tensor, State]:
        """Log-probabilities: the average of what `run` predicts under each draw; and the new states.

        Args:
          run: see `Run`.
          states: [N, S, ...].
          shape: of the log-probabilities, int32 [rank].
        """

        def add(sums, logits):
            log_sum = _log_add_exp(sums[0], tf.nn.log_softmax(logits))
            return (tf.ensure_shape(log_sum, sums[0].shape),)

        (log_sum,), states = self._fold(run, states, (tf.fill(shape, tf.float32.min),), add)
        return log_sum - tf.math.log(self._count), states

    def score(self, run: Run, states: State, targets: tf.Tensor, classes: int) -> tuple[TargetScores, State]:
        """What the average of `run` over the draws thinks of the targets, and the new states.

        Args:
          run: see `Run`.
          states: [N, S, ...].
          targets: int32 [N, T].
          classes: V.
        """

        def add(sums, logits):
            probabilities, chosen, entropy = _judged(logits, targets)
            return (
                # As logarithms: a target's probability may be too small for a float32.
                _log_add_exp(sums[0], chosen),
                tf.ensure_shape(sums[1] + probabilities, sums[1].shape),
                sums[2] + entropy,
            )

        shape = tf.shape(targets)
        probabilities = tf.zeros(tf.concat([shape, [classes]], axis=0))
        start = (tf.fill(shape, tf.float32.min), probabilities, tf.zeros(shape))
        (chosen, probabilities, entropies), states = self._fold(run, states, start, add)
        average = probabilities / self._count
        total = -tf.reduce_sum(tf.math.xlogy(average, average), axis=-1)
        epistemic = tf.maximum(total - entropies / self._count, 0.0)
        epistemic = tf.where(self.num_samples == 1, tf.zeros_like(epistemic), epistemic)
        return TargetScores(chosen - tf.math.log(self._count), total, epistemic), states

    def _fold(self, run: Run, states: State, start, add):
        structure = tf.nest.map_structure(lambda value: value[:, 0], states)

        def body(place, sums, written):
            state = tf.nest.map_structure(lambda value: value[:, place], states)
            logits, state = run(self.draw(place), state)
            return place + 1, add(sums, logits), _write(written, place, state)

        _, sums, written = self._loop(body, start, self._arrays(structure))
        return sums, _stacked(written, structure)

    @property
    def _count(self) -> tf.Tensor:
        return tf.cast(self.num_samples, tf.float32)

    def reduce(self, make: Callable[[Draw], Any], add: Callable[[Any, Any, tf.Tensor], Any]) -> Any:
        """Folds what `make` gives under the draws: `add(so far, more, place)`, from that under the first."""

        def body(place, total):
            return place + 1, add(total, make(self.draw(place)), place)

        start = add(None, make(self.draw(0)), tf.constant(0))
        _, total = tf.while_loop(
            lambda place, _: place < self.num_samples, body, (tf.constant(1), start), parallel_iterations=1
        )
        return total

    def _arrays(self, structure: State) -> State:
        return tf.nest.map_structure(
            lambda value: tf.TensorArray(value.dtype, self.num_samples, element_shape=value.shape), structure
        )

    def _loop(self, body, *start):
        return tf.while_loop(
            lambda place, *_: place < self.num_samples, body, (tf.constant(0), *start), parallel_iterations=1
        )


class HeldDraws(FreshDraws):
    """Draws that are made once and held, for use in a loop over words: memory grows with their number."""

    def __init__(self, exported, num_samples: tf.Tensor, root: tf.Tensor):
        """Makes the draws; for the arguments see `FreshDraws`."""
        super().__init__(exported, num_samples, root)
        weights = exported.posterior.variational

        def body(place, written):
            draw = super(HeldDraws, self).draw(place)
            return place + 1, _write(written, place, [draw[weight] for weight in weights])

        arrays = [
            tf.TensorArray(tf.float32, num_samples, element_shape=weight.shape, clear_after_read=False)
            for weight in weights
        ]
        _, written = self._loop(body, arrays)
        self._fixed = dict(exported.mean())
        self._held = {
            weight: tf.ensure_shape(array.stack(), [None, *weight.shape])
            for weight, array in zip(weights, written, strict=True)
        }

    def draw(self, place: tf.Tensor | int) -> Draw:
        """The draw of this number."""
        return Draw({**self._fixed, **{weight: values[place] for weight, values in self._held.items()}})


def _judged(logits: tf.Tensor, targets: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Probabilities [..., V]; log p of the targets [...], and the entropy [...].

    Without the logarithms of all probabilities, which take longer than the rest.
    """
    probabilities = tf.nn.softmax(logits)
    logits -= tf.reduce_max(logits, axis=-1, keepdims=True)
    log_largest = tf.math.log(tf.reduce_max(probabilities, axis=-1))
    chosen = tf.gather(logits, targets, batch_dims=targets.shape.rank) + log_largest
    entropy = -tf.reduce_sum(tf.math.multiply_no_nan(logits, probabilities), axis=-1) - log_largest
    return probabilities, chosen, entropy


def _log_add_exp(one: tf.Tensor, other: tf.Tensor) -> tf.Tensor:
    """log(exp(one) + exp(other)), for `one` that is finite."""
    return tf.maximum(one, other) + tf.math.log1p(tf.exp(-tf.abs(one - other)))


def _structure(make: Callable[[], State]) -> State:
    """Of what `make` gives, the nest with shapes and types; nothing of it is computed."""
    return tf.function(make, autograph=False).get_concrete_function().structured_outputs


def _write(arrays: State, place: tf.Tensor, values: State) -> State:
    flat = [
        array.write(place, value)
        for array, value in zip(tf.nest.flatten(arrays), tf.nest.flatten(values), strict=True)
    ]
    return tf.nest.pack_sequence_as(values, flat)


def _stacked(arrays: State, structure: State) -> State:
    """Tensors [N, S, ...] of arrays of S tensors [N, ...]."""

    def stack(array, like):
        rank = like.shape.rank
        return tf.transpose(array.stack(), [1, 0, *range(2, rank + 1)])

    flat = zip(tf.nest.flatten(arrays), tf.nest.flatten(structure), strict=True)
    return tf.nest.pack_sequence_as(structure, [stack(array, like) for array, like in flat])
