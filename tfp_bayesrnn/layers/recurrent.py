"""The recurrent layers, each made from its cell by a class attribute."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from tfp_bayesrnn.layers import signatures
from tfp_bayesrnn.layers.cell import VariationalRNNCell
from tfp_bayesrnn.posterior.kl_weights import KLWeighted


class VariationalRNN(KLWeighted, keras.layers.RNN):
    """Base of the variational recurrent layers: a `keras.layers.RNN` that runs a sequence as its cell does.

    A subclass names the cell that it is the layer of, and has the arguments of both:

        @keras.saving.register_keras_serializable("my_package")
        class VariationalMGU(VariationalRNN):
            cell_class = VariationalMGUCell

    Everything about states, masks and return values is Keras's; only the loop over time is the cell's.
    `unroll` therefore changes nothing.
    """

    cell_class: type[VariationalRNNCell]

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "cell_class" in cls.__dict__ and "__init__" not in cls.__dict__:
            cls.__init__ = _constructor(cls)  # type: ignore[method-assign]  # It takes the cell's arguments.

    def __init__(
        self,
        *args: Any,
        return_sequences: bool = False,
        return_state: bool = False,
        go_backwards: bool = False,
        stateful: bool = False,
        zero_output_for_mask: bool = False,
        **kwargs: Any,
    ):
        """Builds the layer.

        Args:
          return_sequences: whether to return [B, T, U] and not the last [B, U].
          return_state: whether to return the final states as well.
          go_backwards: whether time runs backwards; outputs are then in reversed order.
          stateful: whether the state is kept from call to call. Not needed inside a `BayesianModel`.
          zero_output_for_mask: whether masked steps output zeros, not the output before them.
          *args: positional arguments of the cell.
          **kwargs: further arguments of the cell and of `keras.layers.Layer`.
        """
        if not hasattr(self, "cell_class"):
            raise TypeError(f"{type(self).__name__} has no cell_class: a subclass says of which cell it is")
        # Includes those that the cell has no use for: it refuses them itself.
        of_cell = {*signatures.parameters(self.cell_class.__init__), *self.cell_class.without}
        cell = self.cell_class(
            *args,
            **{name: kwargs.pop(name) for name in of_cell & kwargs.keys()},
            dtype=kwargs.get("dtype"),
            trainable=kwargs.get("trainable", True),
            name="cell",
        )
        super().__init__(
            cell,
            return_sequences=return_sequences,
            return_state=return_state,
            go_backwards=go_backwards,
            stateful=stateful,
            zero_output_for_mask=zero_output_for_mask,
            **kwargs,
        )
        self.input_spec = keras.layers.InputSpec(ndim=3)

    @property
    def units(self) -> int:
        """The size of the output."""
        return self.cell.units

    @property
    def kl_weight(self) -> keras.Variable | tf.Variable | None:
        """The cell's `kl_weight`."""
        return self.cell.kl_weight

    @kl_weight.setter
    def kl_weight(self, value: float | keras.Variable | tf.Variable | None) -> None:
        self.cell.kl_weight = value

    def call(
        self, sequences: tf.Tensor, initial_state: Any = None, mask: Any = None, training: bool = False
    ) -> Any:
        """Runs the layer over a sequence; see `keras.layers.RNN`.

        Inputs [B, T, D] and mask [B, T] or [B, T, 1] may be of any numeric or boolean dtype.
        """
        sequences = tf.cast(sequences, self.cell.compute_dtype)
        mask = mask[0] if isinstance(mask, list | tuple) else mask
        if mask is not None:
            mask = tf.cast(mask if len(mask.shape) == 2 else mask[..., 0], tf.bool)
        return super().call(sequences, initial_state, mask, training)

    def inner_loop(
        self,
        sequences: tf.Tensor,
        initial_state: Sequence[tf.Tensor],
        mask: tf.Tensor | None,
        training: bool = False,
    ) -> tuple[tf.Tensor, tf.Tensor, list[tf.Tensor]]:
        """Runs the loop over time, with the weights that the cell holds for this sequence."""
        weights = self.cell.held
        if weights.input_mask is not None:
            sequences = sequences * weights.input_mask[:, tf.newaxis]
        outputs, states = self.cell.sequence(weights, sequences, initial_state, mask, self.go_backwards)
        if mask is not None and self.zero_output_for_mask:
            kept = tf.reverse(mask, [1]) if self.go_backwards else mask
            outputs = tf.where(kept[:, :, tf.newaxis], outputs, tf.zeros_like(outputs))
        return outputs[:, -1], outputs, list(states)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments: those of the cell beside those of `keras.layers.RNN`."""
        config = super().get_config()
        del config["cell"]
        cell_config = self.cell.get_config()
        for key in ("name", "trainable", "dtype"):
            cell_config.pop(key, None)
        return {**cell_config, **config}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> VariationalRNN:
        """The layer whose `get_config` gave `config`."""
        return cls(**config)


def _constructor(layer_class: type[VariationalRNN]) -> Callable:
    """Makes a layer's constructor, which takes and shows the arguments of its cell and of every layer."""

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        named = signatures.by_name(__init__, args, kwargs)
        super(layer_class, self).__init__(**named)

    every_cell, cell = VariationalRNNCell.__init__, layer_class.cell_class.__init__
    of_cell = signatures.parameters(cell)
    known = {name: each for name, each in signatures.parameters(every_cell).items() if name in of_cell}
    # Arguments of this cell alone stand where Keras's layers have theirs.
    found = signatures.inserted(known, of_cell, before="dropout")
    found = signatures.positional({**found, **signatures.parameters(VariationalRNN.__init__)})
    signatures.show(__init__, found, "Builds the layer.", [every_cell, cell, VariationalRNN.__init__])
    __init__.__qualname__ = f"{layer_class.__qualname__}.__init__"
    return __init__
