"""Sample paths: a value drawn at every step, and read by the next (ancestral sampling).

A path is made under one draw of the weights, from its context to its end, and under one mask of dropout.
Dimensions: B forecasts, R = B times the paths of a draw, C steps of context, H of the horizon, M the largest
lag, P paths in all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from tfp_bayesrnn import BayesianModel, noise
from tfp_bayesrnn.noise import Stream
from tfp_bayesrnn.posterior import ambient
from tfp_bayesrnn.posterior.posterior import Draw
from zoo.forecasting.windows import Layout, Rows

MARGIN = 3.0
"""How far paths of logarithms may leave those of the history: exp of a heavy tail would have no mean."""


class PathSampler:
    """Draws paths from a model's posterior; it compiles one function, so make one and use it again."""

    def __init__(self, model: BayesianModel, layout: Layout):
        """Takes the model, built, and the form of its windows."""
        self.model, self.layout = model, layout
        self._function = tf.function(self._paths, autograph=False, reduce_retracing=True)

    def sample(self, rows: Rows, paths: int, num_samples: int, seed: int, part: int = 0) -> np.ndarray:
        """Returns paths in the units of the series, float64 [P, B, H].

        Args:
          rows: the windows of the forecasts; what lies beyond their origins is not looked at, but for what
            is known in advance.
          paths: the number of paths, P, at least; they are shared out equally over the draws.
          num_samples: the number of draws of the weights; 0 for the posterior mean, without dropout. Of a
            model whose weights are points, each path has masks of dropout of its own.
          seed: the seed of draws and of paths: draws are the same for all forecasts.
          part: the number of these forecasts among others with the same seed, which get other noise.
        """
        posterior, root = self.model.posterior, noise.make_seed(seed)
        draws = noise.derive(root, Stream.EVALUATION_DRAWS)
        if not num_samples:
            chosen = [posterior.mean()]
        else:
            # Masks are of rows: one draw of points has them for every path.
            count = min(num_samples, paths) if posterior.is_variational else 1
            chosen = [posterior.sample(noise.derive(draws, number)) for number in range(count)]
        copies = -(-paths // len(chosen))
        tensors = tf.nest.map_structure(tf.convert_to_tensor, (rows.inputs, rows.history))
        found = []
        for number, draw in enumerate(chosen):
            own = noise.derive(root, Stream.FORECAST_NOISE, part, number)
            values = [draw[weight] for weight in posterior.weights]
            scaled = self._function(values, draw.seed, own, *tensors, tf.constant(copies))
            found.append(scaled.numpy().astype(np.float64))
        return self._in_units(np.concatenate(found), rows)

    def _in_units(self, paths: np.ndarray, rows: Rows) -> np.ndarray:
        """Paths [P, B, H] that are scaled, but for counts, in the units of the series."""
        if self.layout.has_counts:
            return paths
        location, scale = (one[:, np.newaxis] for one in rows.scale.T.astype(np.float64))
        paths = location + scale * paths
        if not self.layout.is_logarithmic:
            return paths
        values, flags = rows.history[:, 0], rows.history[:, 1]
        highest = np.where(flags > 0.0, location + scale * values, 0.0).max(axis=1)
        return np.expm1(np.clip(paths, 0.0, highest[:, np.newaxis] + MARGIN))

    def _paths(
        self,
        values: Sequence[tf.Tensor],
        mask_seed: tf.Tensor | None,
        seed: tf.Tensor,
        inputs: dict[str, tf.Tensor],
        history: tf.Tensor,
        copies: tf.Tensor,
    ) -> tf.Tensor:
        """The paths under a draw, [paths of the draw, B, H]."""
        network: Any = self.model.network
        draw = Draw(dict(zip(self.model.posterior.weights, values, strict=True)), seed=mask_seed)
        has_masks = network.has_dropout and mask_seed is not None
        count = tf.shape(history)[0]

        def copied(one: tf.Tensor) -> tf.Tensor:  # Copy after copy: [copies, B] as one axis.
            return tf.tile(one, [copies, *[1] * (one.shape.rank - 1)])

        if has_masks:  # One for each path, from its context on.
            inputs, history = tf.nest.map_structure(copied, (inputs, history))
        context = self.layout.context
        before = {**inputs, **{name: inputs[name][:, :context] for name in ("lags", "known")}}
        with ambient.under(draw):
            _, state = network.run(before, network.get_initial_state(tf.shape(history)[0]))
        ahead = {name: inputs[name] for name in ("categories", "scale")}
        known = inputs["known"][:, context:]
        if not has_masks:
            state, ahead, known, history = tf.nest.map_structure(copied, (state, ahead, known, history))

        def run(inputs: dict[str, tf.Tensor], state: Any) -> tuple[tf.Tensor, Any]:
            with ambient.under(draw):
                return network.run(inputs, state)

        paths = walked(run, self.model.likelihood, self.layout, seed, state, ahead, known, history)
        return tf.reshape(paths, [copies, count, self.layout.horizon])


def walked(
    run: Callable[[dict[str, tf.Tensor], Any], tuple[tf.Tensor, Any]],
    likelihood: Any,
    layout: Layout,
    seed: tf.Tensor,
    state: Any,
    ahead: dict[str, tf.Tensor],
    known: tf.Tensor,
    history: tf.Tensor,
) -> tf.Tensor:
    """The paths of R rows from their contexts on, [R, H]: scaled values or, of heads of counts, counts.

    Args:
      run: (inputs of some steps, state) -> (outputs, state after them), the network under a draw.
      likelihood: the distribution of a value, given its outputs.
      layout: the form of a window.
      seed: the seed of the values, int32 [2].
      state: the state after the context.
      ahead: the inputs of a window: "categories" and "scale".
      known: what is known in advance of the horizon, [R, H, K].
      history: the values before the forecast and their flags, [R, 2, M].
    """
    back = [history.shape[-1] - lag for lag in layout.lags]

    def step(number: tf.Tensor, state: Any, past: tf.Tensor, paths: tf.TensorArray) -> tuple:
        seen = tf.gather(past, back, axis=2)
        lags = tf.concat([seen[:, 0], seen[:, 1]], axis=1)[:, tf.newaxis]
        inputs = {**ahead, "lags": lags, "known": known[:, number][:, tf.newaxis]}
        outputs, state = run(inputs, state)
        value = likelihood.sample(outputs[:, 0], noise.derive(seed, number))
        scaled = value / ahead["scale"][:, 1] if layout.has_counts else value
        new = tf.stack([scaled, tf.ones_like(scaled)], axis=1)[:, :, tf.newaxis]
        past = tf.concat([past[:, :, 1:], new], axis=2)
        return number + 1, state, past, paths.write(number, value)

    paths = tf.TensorArray(tf.float32, layout.horizon, element_shape=[None])
    *_, paths = tf.while_loop(
        lambda number, *_: number < layout.horizon,
        step,
        (tf.constant(0), state, history, paths),
        parallel_iterations=1,
    )
    return tf.transpose(paths.stack())
