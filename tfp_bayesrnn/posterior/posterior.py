"""The posterior over all weights of a network, and a draw from it as a value.

A `Draw` maps every `VariationalWeight` of a network to a tensor. Running the network under another draw is
all there is to training, averaging over samples, pruning or evaluating the mean:

    posterior = Posterior.of(network)
    draw = posterior.sample(seed)
    outputs = draw.run(network, inputs)
    kl = posterior.kl(draw)
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from tfp_bayesrnn import keras_internals, noise
from tfp_bayesrnn.noise import Stream
from tfp_bayesrnn.posterior import ambient, initial_values
from tfp_bayesrnn.posterior.kl_weights import KLWeighted
from tfp_bayesrnn.posterior.weights import VariationalWeight


class Draw(Mapping[VariationalWeight, tf.Tensor]):
    """One value, float32, for each weight of a posterior.

    `seed` is where the masks of dropout come from; without one (the posterior mean) there is no dropout. So a
    dropout network and a Bayesian one are both made stochastic by a sample and deterministic by the mean.
    """

    def __init__(
        self,
        values: Mapping[VariationalWeight, tf.Tensor],
        epsilons: Mapping[VariationalWeight, tf.Tensor] | None = None,
        seed: tf.Tensor | None = None,
    ):
        """Takes the values; the standard normal noise of each sampled one; a seed, int32 [2]."""
        self._values = dict(values)
        self.epsilons = dict(epsilons or {})
        self.seed = seed

    def __getitem__(self, weight: VariationalWeight) -> tf.Tensor:
        return self._values[weight]

    def __iter__(self) -> Iterator[VariationalWeight]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def without_dropout(self) -> Draw:
        """Returns the same values without a seed for masks, so that dropout is off."""
        return Draw(self)

    def run(self, function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """Returns the result of `function(*arguments, **named)` under this draw: `draw.run(network, x)`.

        Args:
          function: a network, a layer, or any function that calls some; run eagerly, or inside of a
            `tf.function` that this is called in.
          *arguments: the positional arguments of the function.
          **named: the keyword arguments of the function.

        Raises:
          ValueError: if a layer that is run has weights that the draw lacks; if a compiled function would
            keep the draw, or does not see it: one that is called by `function`, such as those of
            `keras.Model.predict`. A method of a layer's own, which Keras's
            classes do not have, may read no weight.
        """
        with ambient.under(self) as context:
            result = function(*arguments, **named)
        if self and not context.reads and not _is_a_layers_own(function):
            raise ValueError(
                "Nothing that was run has read the draw: there is no variational layer in it, or it is a "
                "function that was compiled before, as keras.Model.predict is. Run the network itself, or "
                f"use BayesianModel.predict(x, draw=draw). Received: function={function!r}"
            )
        return result


def _is_a_layers_own(function: Callable[..., Any]) -> bool:
    """Whether this is a method that a layer's class adds to Keras's, which may need none of its weights."""
    layer = getattr(function, "__self__", None)
    return isinstance(layer, keras.layers.Layer) and not hasattr(keras.Model, function.__name__)


def standard_normals(
    weights: Sequence[VariationalWeight], seed: tf.Tensor, stream: Stream
) -> dict[VariationalWeight, tf.Tensor]:
    """Returns standard normal noise for each of the weights, of the weight's shape."""
    return _normals({weight: weight.shape for weight in weights}, seed, stream)


def _normals(
    shapes: Mapping[VariationalWeight, Sequence[int]], seed: tf.Tensor, stream: Stream
) -> dict[VariationalWeight, tf.Tensor]:
    normals = noise.normals(list(shapes.values()), seed, stream) if shapes else []
    return dict(zip(shapes, normals, strict=True))


class Posterior:
    """q(w) over the weights of a network."""

    def __init__(self, weights: Iterable[VariationalWeight], unbuilt: Iterable[str] = ()):
        """Takes the weights, and the names of layers which are to have weights and are not built yet."""
        self.weights = list(weights)
        self._unbuilt = list(unbuilt)

    @classmethod
    def of(cls, *layers: keras.layers.Layer) -> Posterior:
        """Returns the posterior of all variational weights in these layers, each weight once.

        Their order, by which a draw shares out its noise, is that of their paths within a layer, the names of
        the layers that hold them: "lstm_2" before "lstm_10", and "bias" before "kernel". So it depends
        neither on the order in which layers were made or found, nor on how many the process has made.

        A layer that is not built has no weights yet: its posterior knows none, and draws none.
        """
        found, unbuilt = [], []
        for layer in layers:
            weights = list(_by_path(layer, seen=set()))
            found += weights
            if not layer.built and (not weights or any(not each.built for each in _with_weights(layer))):
                unbuilt.append(layer.name)
        return cls(dict.fromkeys(found), unbuilt)

    @property
    def variational(self) -> list[VariationalWeight]:
        """The weights that have a distribution, not just a value."""
        return [weight for weight in self.weights if weight.is_variational]

    def noise(self, seed: tf.Tensor) -> dict[VariationalWeight, tf.Tensor]:
        """Returns the standard normal noise that `sample` of this seed, int32 [2], makes its values of."""
        shapes = {each: each.noise_shape for each in self.weights if each.noise_shape is not None}
        return _normals(shapes, seed, Stream.WEIGHTS)

    @property
    def is_variational(self) -> bool:
        """Whether any weight has a distribution."""
        return bool(self.variational)

    def initialize(self, seed: int) -> None:
        """Sets every weight to initial values of its own, a function of `seed` and the weight's path.

        The path is that within the network, so it does not depend on how many networks the process has made.
        """
        paths = [weight.path.split("/") for weight in self.weights]
        levels = zip(*(path[:-1] for path in paths), strict=False)
        start = len(list(itertools.takewhile(lambda names: len(set(names)) == 1, levels)))
        for weight, path in zip(self.weights, paths, strict=True):
            weight.initialize(initial_values.named_seed(seed, "/".join(path[start:])))

    def sample(self, seed: tf.Tensor | int, mirrored: bool = False) -> Draw:
        """Returns a reparameterised draw of every weight.

        Args:
          seed: the seed, int32 [2], or an integer. The same seed gives the same draw, eagerly and compiled.
          mirrored: whether its noise is the negative of that of the same seed (an antithetic draw): the
            average of both draws of a normal posterior is its mean. Its masks of dropout are others.

        Raises:
          ValueError: if the network is not built: it has no weights to draw.
        """
        self._check_built()
        if not tf.convert_to_tensor(seed).shape.rank:
            seed = noise.make_seed(seed)
        epsilons = self.noise(seed)
        if mirrored:
            epsilons = {weight: -epsilon for weight, epsilon in epsilons.items()}
            seed = noise.derive(seed, Stream.MIRRORED)
        values = {
            weight: weight.sample(epsilons[weight]) if weight in epsilons else weight.mean()
            for weight in self.weights
        }
        return Draw(values, epsilons, seed)

    def mean(self) -> Draw:
        """Returns the posterior mean, without dropout; raises `ValueError` as `sample` does."""
        self._check_built()
        return Draw({weight: weight.mean() for weight in self.weights})

    def _check_built(self) -> None:
        if self._unbuilt:
            raise ValueError(
                "A network has no weights before it is built, and a draw of none would run its mean: call "
                "model.build(input_shape), or the network on a minibatch, before drawing. "
                f"Received: layer={self._unbuilt[0]!r}, not built"
            )

    def kl(self, draw: Draw) -> tf.Tensor:
        """Returns KL[q || p] in nats, summed over all weights; see `VariationalWeight.kl`. Float32 scalar."""
        terms = [weight.kl(draw[weight], draw.epsilons.get(weight)) for weight in self.weights]
        return tf.add_n(terms) if terms else tf.zeros([])


def _with_weights(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
    """The layers within a layer that make variational weights when they are built."""
    within = keras_internals.layers_within(layer)
    return [each for each in within if isinstance(each, KLWeighted) and not isinstance(each, keras.Model)]


def _by_path(layer: keras.layers.Layer, seen: set[int]) -> Iterator[VariationalWeight]:
    """Yields the weights within a layer in the order of their paths, each at the first of its paths."""
    if id(layer) in seen:
        return
    seen.add(id(layer))
    if isinstance(layer, VariationalWeight):
        yield layer
        return
    for inner in sorted(keras_internals.layers_directly_within(layer), key=_by_name):
        yield from _by_path(inner, seen)


def _by_name(layer: keras.layers.Layer) -> list[str | int]:
    """A key that sorts layers by name, the numbers in it as numbers."""
    parts = re.split(r"([0-9]+)", layer.name)
    return [int(part) if place % 2 else part for place, part in enumerate(parts)]
