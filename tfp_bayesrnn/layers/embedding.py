"""Variational embedding."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from tfp_bayesrnn import checks
from tfp_bayesrnn.distributions import NormalPrior, Prior, VariationalFamily
from tfp_bayesrnn.layers.base import VariationalLayer


@keras.saving.register_keras_serializable("tfp_bayesrnn")
class VariationalEmbedding(VariationalLayer, keras.layers.Layer):
    """A table of vectors, one for each of `input_dim` ids, under a variational posterior.

    Call arguments: integer ids of any shape [...]; the result has shape [..., output_dim]. `attend`
    multiplies by the transposed table instead, for a softmax that shares the weight; it is then one weight,
    with one draw and one KL.

    >>> layer = VariationalEmbedding(1000, 16, kl_weight=1 / 500)
    >>> layer(keras.ops.array([[1, 2, 3]]), training=True).shape
    TensorShape([1, 3, 16])
    """

    def __init__(
        self,
        input_dim: int,
        output_dim: int,
        embeddings_initializer: str | keras.initializers.Initializer = "uniform",
        mask_zero: bool = False,
        attend_bias: bool = False,
        prior: Prior | Callable | None = None,
        posterior: VariationalFamily | None = None,
        kl_weight: float | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ):
        """Builds the layer.

        Args:
          input_dim: the number of ids.
          output_dim: the size of a vector.
          embeddings_initializer: the initializer of the posterior mean of the table.
          mask_zero: whether id 0 is padding, to be masked in the layers that follow.
          attend_bias: whether `attend` adds a bias, which starts at zero and has no distribution.
          prior: a `Prior`, a function from a shape to a `tfd.Distribution`, or None: `NormalPrior()`.
          posterior: a `VariationalFamily`; None: `MeanFieldNormal()`.
          kl_weight: the weight of the KL where no `BayesianModel` owns the objective; see `VariationalLayer`.
          seed: the seed of the draws that the layer makes by itself.
          **kwargs: further arguments of `keras.layers.Layer`.
        """
        super().__init__(**kwargs)
        self._init_variational(prior, posterior, kl_weight, seed)
        if input_dim <= 0 or output_dim <= 0:
            raise ValueError(
                "input_dim and output_dim must be positive. "
                f"Received: input_dim={input_dim}, output_dim={output_dim}"
            )
        self.input_dim = int(input_dim)
        self.output_dim = int(output_dim)
        self.embeddings_initializer = keras.initializers.get(embeddings_initializer)
        self.mask_zero = mask_zero
        self.attend_bias = attend_bias
        self.supports_masking = mask_zero
        self.autocast = False

    def default_prior(self) -> Prior:
        """`NormalPrior()`: an id looks up one row, so that the fan-in is 1."""
        return NormalPrior()

    def build(self, input_shape: Any = None) -> None:
        """Makes the table [input_dim, output_dim], and the bias [input_dim] of `attend`."""
        shape = (self.input_dim, self.output_dim)
        self.embeddings = self._add_variational_weight("embeddings", shape, self.embeddings_initializer)
        if self.attend_bias:
            zeros = keras.initializers.Zeros()
            self.bias = self._add_variational_weight("bias", (self.input_dim,), zeros, variational=False)

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Returns the vectors of the ids."""
        table, ids = self._draw_for_call(training)[self.embeddings], tf.cast(inputs, tf.int32)
        if checks.is_collected():  # A step that XLA compiles; elsewhere `tf.gather` refuses such ids.
            accepted = f"Inputs of {self.name!r} are ids from 0 to {self.input_dim - 1}, below its input_dim"
            ids = tf.clip_by_value(checks.within(ids, 0, self.input_dim - 1, accepted), 0, self.input_dim - 1)
        # Gather before the cast: only the looked-up rows are cast.
        return tf.cast(tf.gather(table, ids), self.compute_dtype)

    def attend(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Returns `inputs` [..., output_dim] times the transposed table, plus the bias: [..., input_dim]."""
        draw = self._draw_for_call(training)
        table = tf.cast(draw[self.embeddings], self.compute_dtype)
        outputs = tf.einsum("...u,vu->...v", tf.cast(inputs, self.compute_dtype), table)
        return outputs + tf.cast(draw[self.bias], self.compute_dtype) if self.attend_bias else outputs

    def compute_mask(self, inputs: tf.Tensor, mask: Any = None) -> tf.Tensor | None:
        """Returns where the ids are not 0, if `mask_zero`."""
        return keras.ops.not_equal(inputs, 0) if self.mask_zero else None

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Returns [..., output_dim]."""
        return (*input_shape, self.output_dim)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            **self._variational_config(),
            "input_dim": self.input_dim,
            "output_dim": self.output_dim,
            "embeddings_initializer": keras.initializers.serialize(self.embeddings_initializer),
            "mask_zero": self.mask_zero,
            "attend_bias": self.attend_bias,
        }
