"""Variational fully connected layer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from tfp_bayesrnn import ops
from tfp_bayesrnn.distributions import Prior, VariationalFamily
from tfp_bayesrnn.layers.base import VariationalLayer
from tfp_bayesrnn.posterior.weights import VariationalWeight


@keras.saving.register_keras_serializable("tfp_bayesrnn")
class VariationalDense(VariationalLayer, keras.layers.Layer):
    """activation(inputs @ kernel + bias) with a variational posterior over the kernel.

    The bias is deterministic unless `variational_bias=True`, as the softmax's is in the released code.
    Call arguments: inputs [..., D], of any numeric or boolean dtype; the result has shape [..., units].
    """

    def __init__(
        self,
        units: int,
        activation: str | Callable | None = None,
        use_bias: bool = True,
        kernel_initializer: str | keras.initializers.Initializer = "glorot_uniform",
        bias_initializer: str | keras.initializers.Initializer = "zeros",
        prior: Prior | Callable | None = None,
        posterior: VariationalFamily | None = None,
        variational_bias: bool = False,
        kl_weight: float | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ):
        """Builds the layer.

        Args:
          units: the size of the output.
          activation: the activation of the output; see `keras.layers.Dense`.
          use_bias: whether there is a bias.
          kernel_initializer: the initializer of the posterior mean of the kernel.
          bias_initializer: the initializer of the (posterior mean of the) bias.
          prior: a `Prior`, a function from a shape to a `tfd.Distribution`, or None: `FanInNormalPrior()`.
          posterior: a `VariationalFamily`; None: `MeanFieldNormal()`.
          variational_bias: whether the bias has a distribution too.
          kl_weight: the weight of the KL where no `BayesianModel` owns the objective; see `VariationalLayer`.
          seed: the seed of the draws that the layer makes by itself.
          **kwargs: further arguments of `keras.layers.Layer`.
        """
        super().__init__(**kwargs)
        self._init_variational(prior, posterior, kl_weight, seed)
        if units <= 0:
            raise ValueError(f"units must be positive. Received: units={units}")
        self.units = int(units)
        self.activation = keras.activations.get(activation)
        self.use_bias = use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.variational_bias = variational_bias
        self.supports_masking = True
        self.bias: VariationalWeight | None = None

    def build(self, input_shape: Any) -> None:
        """Makes the kernel [D, units] and the bias [units]."""
        self.input_spec = keras.layers.InputSpec(min_ndim=2, axes={-1: input_shape[-1]})
        shape = (input_shape[-1], self.units)
        self.kernel = self._add_variational_weight("kernel", shape, self.kernel_initializer)
        if self.use_bias:
            self.bias = self._add_variational_weight(
                "bias", (self.units,), self.bias_initializer, self.variational_bias
            )

    def call(self, inputs: tf.Tensor, training: bool = False) -> tf.Tensor:
        """Returns the layer's output, in its compute dtype."""
        draw, dtype = self._draw_for_call(training), self.compute_dtype
        bias = None if self.bias is None else tf.cast(draw[self.bias], dtype)
        return self.activation(ops.project(tf.cast(inputs, dtype), tf.cast(draw[self.kernel], dtype), bias))

    def compute_output_shape(self, input_shape: Any) -> Any:
        """Returns [..., units]."""
        return (*input_shape[:-1], self.units)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            **self._variational_config(),
            "units": self.units,
            "activation": keras.activations.serialize(self.activation),
            "use_bias": self.use_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
            "variational_bias": self.variational_bias,
        }
