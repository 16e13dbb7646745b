"""The forecaster's network: recurrent layers that read values and what is known beside them (DeepAR's kind).

Salinas, Flunkert, Gasthaus, Januschowski, "DeepAR: Probabilistic forecasting with autoregressive recurrent
networks" (2020). Dimensions: B windows, W steps, L lags, K known features, J categories, P parameters of a
value's distribution.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import keras
import tensorflow as tf

from tfp_bayesrnn import (
    Dropout,
    PointMass,
    VariationalDense,
    VariationalEmbedding,
    VariationalFamily,
)
from tfp_bayesrnn.distributions import Prior, priors
from tfp_bayesrnn.model import recurrence
from zoo.language_model import cells
from zoo.runs.networks import VariationalNetwork

State = list[list[tf.Tensor]]
Inputs = Mapping[str, tf.Tensor]


@keras.saving.register_keras_serializable("zoo")
class ForecastNetwork(VariationalNetwork):
    """{"lags" [B, W, 2 L], "known" [B, W, K], "categories" [B, J], "scale" [B, 2]} -> outputs [B, W, P].

    The outputs are the raw parameters of the distribution of each step's value, in units of the window's
    scale; where values are counts, they are those of the count itself. One network for every method: all its
    weights have the given posterior.
    """

    def __init__(
        self,
        lags: int,
        known: int,
        categories: int,
        vocabulary_size: int,
        parameters: int,
        units: int = 40,
        layers: int = 2,
        cell: str = "lstm",
        category_units: int = 8,
        dropout: float = 0.0,
        has_counts: bool = False,
        prior: Prior | Callable | None = None,
        recurrent_posterior: VariationalFamily | None = None,
        other_posterior: VariationalFamily | None = None,
        **kwargs: Any,
    ):
        """Builds the network.

        Args:
          lags: the number of lags, L.
          known: the number of features that are known in advance, K.
          categories: the number of categories, J; their words have one table of vectors.
          vocabulary_size: the number of words of all categories.
          parameters: the number of parameters of a value's distribution, P.
          units: the units of each recurrent layer.
          layers: the number of recurrent layers.
          cell: the kind of the recurrent layers, one of `zoo.language_model.cells.CELLS`.
          category_units: the size of a word's vector.
          dropout: the rate between layers; a mask is the same for all steps.
          has_counts: whether values are counts: the first output is a raw mean and the second a raw
            dispersion.
          prior: the prior of the weights.
          recurrent_posterior: the variational family of the recurrent layers; None for point masses.
          other_posterior: the variational family of embedding and head; None for point masses.
          **kwargs: the arguments of `keras.Model`.
        """
        super().__init__(**kwargs)
        self._arguments: dict[str, Any] = {
            "lags": lags,
            "known": known,
            "categories": categories,
            "vocabulary_size": vocabulary_size,
            "parameters": parameters,
            "units": units,
            "layers": layers,
            "cell": cell,
            "category_units": category_units,
            "dropout": dropout,
            "has_counts": has_counts,
        }
        self._prior = priors.get(prior)
        self._recurrent_posterior = recurrent_posterior or PointMass()
        self._other_posterior = other_posterior or PointMass()
        self.has_counts, self.has_dropout = has_counts, dropout > 0.0
        self.features = 2 * lags + known + 2 + categories * category_units
        self.make_layers()

    def make_layers(self) -> None:
        """Makes the layers, not built yet."""
        given, policy = self._arguments, self.dtype_policy
        if given["categories"]:
            self.embedding = VariationalEmbedding(
                given["vocabulary_size"],
                given["category_units"],
                prior=self._prior,
                posterior=self._other_posterior,
                name="embedding",
                dtype=policy,
            )
        make = cells.layer_class(given["cell"])
        self.recurrent = [
            make(
                given["units"],
                prior=self._prior,
                posterior=self._recurrent_posterior,
                return_sequences=True,
                name=f"{given['cell']}_{index}",
                dtype=policy,
            )
            for index in range(given["layers"])
        ]
        self.dropouts = [
            Dropout(given["dropout"], noise_shape=(None, 1, None), dtype=policy)
            for _ in range(given["layers"])
        ]
        self.head = VariationalDense(
            given["parameters"],
            prior=self._prior,
            posterior=self._other_posterior,
            name="head",
            dtype=policy,
        )

    def build(self, input_shape: Any = None) -> None:
        """Makes all weights."""
        units = self._arguments["units"]
        if self._arguments["categories"]:
            self.embedding.build(None)
        for index, layer in enumerate(self.recurrent):
            layer.build((None, None, units if index else self.features))
        self.head.build((None, None, units + self.features))

    def build_from_config(self, config: dict[str, Any]) -> None:
        """Makes all weights of a network that is being loaded."""
        self.build()

    def get_initial_state(self, batch_size: int) -> State:
        """The states of each recurrent layer, all zeros."""
        return [layer.get_initial_state(batch_size) for layer in self.recurrent]

    def call(self, inputs: Inputs, training: bool = False) -> tf.Tensor:
        """The outputs, from a state of zeros."""
        return self.run(inputs, self.get_initial_state(tf.shape(inputs["lags"])[0]), training)[0]

    def run(self, inputs: Inputs, state: State, training: bool = False) -> tuple[tf.Tensor, State]:
        """The outputs of some steps, and the state after them."""
        features = self._features(inputs, training)
        hidden, new_state = features, []
        for layer, dropout, layer_state in zip(self.recurrent, self.dropouts, state, strict=True):
            hidden, layer_state = recurrence.run_layer(layer, hidden, layer_state, training=training)
            hidden = dropout(hidden, training=training)
            new_state.append(layer_state)
        # The head sees the inputs too: the value of last year needs no memory.
        outputs = self.head(tf.concat([hidden, features], axis=-1), training=training)
        return self._unscaled(tf.cast(outputs, tf.float32), inputs["scale"]), new_state

    def _features(self, inputs: Inputs, training: bool) -> tf.Tensor:
        steps = tf.shape(inputs["lags"])[1]
        location, scale = tf.unstack(inputs["scale"], axis=1)
        of_window = [tf.stack([tf.asinh(location), tf.math.log(scale)], axis=1) / 10.0]
        if self._arguments["categories"]:
            vectors = self.embedding(inputs["categories"], training=training)
            of_window.append(tf.reshape(vectors, [-1, vectors.shape[1] * vectors.shape[2]]))
        static = tf.concat([tf.cast(one, self.compute_dtype) for one in of_window], axis=-1)
        static = tf.repeat(static[:, tf.newaxis], steps, axis=1)
        of_steps = [tf.cast(inputs[name], self.compute_dtype) for name in ("lags", "known")]
        return tf.concat([*of_steps, static], axis=-1)

    def _unscaled(self, outputs: tf.Tensor, scale: tf.Tensor) -> tf.Tensor:
        """The parameters of counts: means times the scale, dispersions over its square root."""
        if not self.has_counts:
            return outputs
        scale = scale[:, 1][:, tf.newaxis]
        mean, dispersion = tf.unstack(tf.nn.softplus(outputs), axis=-1)
        return tf.stack([_raw(mean * scale), _raw(dispersion / tf.sqrt(scale))], axis=-1)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The shape of the outputs, [B, W, P]."""
        return (*input_shape["lags"][:2], self._arguments["parameters"])


def _raw(positive: tf.Tensor) -> tf.Tensor:
    """The number whose softplus is a positive one; 1e-6 stands for what is less."""
    positive = tf.maximum(positive, 1e-6)
    return positive + tf.math.log(-tf.math.expm1(-positive))
