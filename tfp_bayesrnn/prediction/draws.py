"""A network's predictions under draws of its weights: under the mean, fresh draws or held ones.

The draws come from anything that has `mean()` and `sample(seed)`: a `Posterior`, or the one of an export.

A network that goes on from call to call has a state of its own for each draw. States here are nests of
tensors [N, S, ...]: N rows, S draws, so that a search over words can take them as those of rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import tensorflow as tf

from tfp_bayesrnn import noise
from tfp_bayesrnn.posterior.posterior import Draw
from tfp_bayesrnn.prediction import averages
from tfp_bayesrnn.prediction.uncertainty import TargetScores

State = Any
Run = Callable[[Draw, State], tuple[Any, State]]
"""From a draw and the state under it to logits [N, ..., V], or anything to fold, and the new state."""


class Source(Protocol):
    """Where draws come from."""

    def mean(self) -> Draw:
        """Returns the one draw of the mean."""

    def sample(self, seed: tf.Tensor) -> Draw:
        """Returns the draw of a seed, int32 [2]."""


def check_samples(num_samples: tf.Tensor) -> tf.Tensor:
    """Returns the number of samples; a call of the graph ends with an error where it is less than 1."""
    message = "num_samples must be at least 1. Received: num_samples ="
    with tf.control_dependencies([tf.debugging.Assert(num_samples >= 1, [message, num_samples])]):
        return tf.identity(num_samples)


class Draws:
    """S draws, and a network's predictions by the average over them."""

    num_samples: int | tf.Tensor

    def draw(self, place: int | tf.Tensor) -> Draw:
        """Returns the draw of a number, from 0 to S - 1."""
        raise NotImplementedError

    def start(self, make: Callable[[Draw], State]) -> State:
        """Returns the states [N, S, ...] that `make` gives under each draw."""
        return self.fold(lambda draw, _: ((), make(draw)), (), lambda so_far, more: ())[1]

    def same(self, state: State) -> State:
        """Returns states [N, S, ...] that are alike under all draws, such as zeros, of one [N, ...]."""
        return tf.nest.map_structure(
            lambda value: tf.repeat(value[:, tf.newaxis], self.num_samples, axis=1), state
        )

    def predict(self, run: Run, states: State) -> tuple[tf.Tensor, State]:
        """Returns log-probabilities, the average of what `run` predicts under each draw; and the new states.

        Args:
          run: the function to run; see `Run`.
          states: the states, [N, S, ...].
        """

        def add(so_far: tf.Tensor | None, logits: tf.Tensor) -> tf.Tensor:
            return averages.log_add_exp(so_far, tf.nn.log_softmax(tf.cast(logits, tf.float32)))

        log_sum, states = self.fold(run, states, add)
        return log_sum - tf.math.log(tf.cast(self.num_samples, tf.float32)), states

    def score(self, run: Run, states: State, targets: tf.Tensor) -> tuple[TargetScores, State]:
        """Scores the targets under the average of `run` over the draws; returns the new states too.

        Args:
          run: the function to run; see `Run`.
          states: the states, [N, S, ...].
          targets: the target classes, int32 [N, ...].
        """
        average = averages.Targets(targets)
        sums, states = self.fold(run, states, average.add)
        return average.finish(sums, self.num_samples), states

    def fold(self, run: Run, states: State, add: Callable[[Any, Any], Any]) -> tuple[Any, State]:
        """Folds the values of all draws by `add(so far, value)`, None at first; returns the new states too.

        Args:
          run: the function to run; see `Run`.
          states: the states, [N, S, ...].
          add: the function to fold by, of values of one structure and shape.
        """
        if isinstance(self.num_samples, int):
            total, new = None, []
            for place in range(self.num_samples):
                value, state = run(self.draw(place), _at(states, place))
                total = add(total, value)
                new.append(state)
            return total, tf.nest.map_structure(lambda *parts: tf.stack(parts, axis=1), *new)
        value, first = run(self.draw(0), _at(states, 0))
        start = add(None, value)

        def body(place: tf.Tensor, total: Any, written: Any) -> tuple[tf.Tensor, Any, Any]:
            value, state = run(self.draw(place), _at(states, place))
            total = tf.nest.map_structure(
                lambda new, old: tf.ensure_shape(new, old.shape), add(total, value), total
            )
            return place + 1, total, _write(written, place, state)

        arrays = tf.nest.map_structure(
            lambda value: tf.TensorArray(value.dtype, self.num_samples, element_shape=value.shape), first
        )
        _, total, written = tf.while_loop(
            lambda place, *_: place < self.num_samples,
            body,
            (tf.constant(1), start, _write(arrays, 0, first)),
            parallel_iterations=1,
        )
        return total, _stacked(written, first)


class GivenDraws(Draws):
    """Draws that are there, each with its own part of the graph."""

    def __init__(self, draws: Sequence[Draw]):
        """Takes at least one draw.

        Raises:
          ValueError: if there is none.
        """
        if not draws:
            raise ValueError(f"There must be at least one draw. Received: draws={draws!r}")
        self._draws = list(draws)
        self.num_samples = len(self._draws)

    def draw(self, place: int) -> Draw:
        """Returns the draw of a number."""
        return self._draws[place]


def mean_draw(source: Source) -> GivenDraws:
    """Returns the mean, as the one draw there is."""
    return GivenDraws([source.mean()])


def given_draws(source: Source, samples: int, root: tf.Tensor, dropout: bool = False) -> GivenDraws:
    """Makes S draws once: draw s is that of the seed `derive(root, s)`; with 0 samples, the mean.

    Args:
      source: the source of the draws.
      samples: S, at least 0.
      root: a seed, int32 [2].
      dropout: whether they have masks of dropout.
    """
    if not samples:
        return mean_draw(source)
    found = [source.sample(noise.derive(root, place)) for place in range(samples)]
    return GivenDraws(found if dropout else [draw.without_dropout() for draw in found])


class FreshDraws(Draws):
    """Draws that are made anew whenever they are used: the memory is that of one, whatever their number.

    Draw s is that of the seed `derive(root, s)`, without dropout where nothing else is said.
    """

    def __init__(self, source: Source, num_samples: int | tf.Tensor, root: tf.Tensor, dropout: bool = False):
        """Takes the source of the draws; S, at least 1; a seed, int32 [2]; whether they have dropout."""
        self._source, self._dropout = source, dropout
        self.num_samples = tf.convert_to_tensor(num_samples)
        self._root = root

    def draw(self, place: tf.Tensor | int) -> Draw:
        """Returns the draw of a number."""
        draw = self._source.sample(noise.derive(self._root, place))
        return draw if self._dropout else draw.without_dropout()


class HeldDraws(FreshDraws):
    """Draws that are made once and held, for use in a loop over words: memory grows with their number."""

    def __init__(self, source: Source, num_samples: int | tf.Tensor, root: tf.Tensor):
        """Makes the draws; for the arguments see `FreshDraws`."""
        super().__init__(source, num_samples, root)
        self._fixed = dict(source.mean())
        weights = [weight for weight in self._fixed if weight.is_variational]

        def sampled(place: tf.Tensor) -> list[tf.Tensor]:
            draw = super(HeldDraws, self).draw(place)
            return [draw[weight] for weight in weights]

        arrays = [
            tf.TensorArray(tf.float32, self.num_samples, element_shape=weight.shape, clear_after_read=False)
            for weight in weights
        ]
        _, written = tf.while_loop(
            lambda place, _: place < self.num_samples,
            lambda place, written: (place + 1, _write(written, place, sampled(place))),
            (tf.constant(0), arrays),
            parallel_iterations=1,
        )
        self._held = {
            weight: tf.ensure_shape(array.stack(), [None, *weight.shape])
            for weight, array in zip(weights, written, strict=True)
        }

    def draw(self, place: tf.Tensor | int) -> Draw:
        """Returns the draw of a number."""
        return Draw({**self._fixed, **{weight: values[place] for weight, values in self._held.items()}})


def _at(states: State, place: int | tf.Tensor) -> State:
    return tf.nest.map_structure(lambda value: value[:, place], states)


def _write(arrays: State, place: int | tf.Tensor, values: State) -> State:
    flat = [
        array.write(place, value)
        for array, value in zip(tf.nest.flatten(arrays), tf.nest.flatten(values), strict=True)
    ]
    return tf.nest.pack_sequence_as(values, flat)


def _stacked(arrays: State, structure: State) -> State:
    """Makes tensors [N, S, ...] of arrays of S tensors [N, ...]."""

    def stack(array: tf.TensorArray, like: tf.Tensor) -> tf.Tensor:
        rank = like.shape.rank
        return tf.transpose(array.stack(), [1, 0, *range(2, rank + 1)])

    flat = zip(tf.nest.flatten(arrays), tf.nest.flatten(structure), strict=True)
    return tf.nest.pack_sequence_as(structure, [stack(array, like) for array, like in flat])
