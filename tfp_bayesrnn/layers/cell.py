"""A recurrent cell: the weights that it declares, and one step."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from tfp_bayesrnn import keras_internals, ops
from tfp_bayesrnn.distributions import Prior, VariationalFamily
from tfp_bayesrnn.errors import quoted
from tfp_bayesrnn.layers import signatures
from tfp_bayesrnn.layers.base import VariationalLayer, dropout_mask, mask_seed
from tfp_bayesrnn.posterior import ambient
from tfp_bayesrnn.posterior.posterior import Draw, Posterior
from tfp_bayesrnn.posterior.weights import VariationalWeight

_TF_ACTIVATIONS = {keras.activations.tanh: tf.tanh, keras.activations.sigmoid: tf.sigmoid}


@dataclasses.dataclass(frozen=True)
class CellWeight:
    """The declaration of one weight of a cell.

    Attributes:
      name: the name by which `step` reads the weight, and the cell's attribute that is the
        `VariationalWeight`.
      shape: the weight's shape.
      initializer: the initializer of the posterior mean.
      variational: whether the weight has a distribution; if not it is a point mass, without a KL.
      amend: a function that makes the initial mean from what the initializer gives; None to leave that as it
        is.
    """

    name: str
    shape: Sequence[int]
    initializer: str | keras.initializers.Initializer
    variational: bool = True
    amend: Callable[[tf.Tensor], tf.Tensor] | None = None


@dataclasses.dataclass(frozen=True)
class SequenceWeights:
    """The weights, by `weights["kernel"]`, and masks of one pass over a sequence, in the compute dtype."""

    values: Mapping[str, tf.Tensor]
    input_mask: tf.Tensor | None = None  # Dropout mask, [B, D].
    recurrent_mask: tf.Tensor | None = None  # Recurrent dropout mask, [B, size of the first state].

    def __getitem__(self, name: str) -> tf.Tensor:
        return self.values[name]

    def get(self, name: str) -> tf.Tensor | None:
        """The weight, or None where the cell has none of this name."""
        return self.values.get(name)

    def dropped(self, hidden: tf.Tensor) -> tf.Tensor:
        """`hidden`, of the first state's shape, under the mask of recurrent dropout if there is one."""
        return hidden if self.recurrent_mask is None else hidden * self.recurrent_mask


class VariationalRNNCell(VariationalLayer, keras.layers.Layer, keras_internals.DropoutRNNCell):
    """Base of the variational cells. A subclass declares its weights and takes one step.

    `declare_weights` and `step` are all that a cell needs. It may also define what its states are
    (`state_sizes`), what of its inputs can be computed for all steps at once (`project`), and how a whole
    sequence is run faster than by a loop over its steps (`sequence`). A class of two lines makes a layer of
    it: see `VariationalRNN`.

    The cell has the weights that it declares and no other, and it is their KL that counts. Inside a recurrent
    layer they are drawn, and the masks of dropout made, once a sequence.

    A cell lists in `without` the arguments that it has no use for: they are refused where they are given. A
    constructor of its own takes `self, units, *args`, its own arguments, which have to be given by keyword,
    and `**kwargs`; it then shows those of this class as well.
    """

    without: tuple[str, ...] = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if {"step", "project"} & cls.__dict__.keys() and "sequence" not in cls.__dict__:
            # An inherited `sequence` would take the parent's steps.
            cls.sequence = VariationalRNNCell.sequence  # type: ignore[method-assign]
        parent = super(cls, cls).__init__
        if "__init__" not in cls.__dict__:
            if "without" not in cls.__dict__:
                return
            cls.__init__ = _handing_on(cls)  # type: ignore[method-assign]  # To show its arguments.
        found = signatures.inherited(cls.__init__, parent)
        found = {name: each for name, each in found.items() if name not in cls.without}
        signatures.show(cls.__init__, found, "Builds the cell.", [parent, cls.__init__])

    def __init__(
        self,
        units: int,
        activation: str | Callable | None = "tanh",
        recurrent_activation: str | Callable | None = "sigmoid",
        use_bias: bool = True,
        kernel_initializer: str | keras.initializers.Initializer = "glorot_uniform",
        recurrent_initializer: str | keras.initializers.Initializer = "orthogonal",
        bias_initializer: str | keras.initializers.Initializer = "zeros",
        dropout: float = 0.0,
        recurrent_dropout: float = 0.0,
        prior: Prior | Callable | None = None,
        posterior: VariationalFamily | None = None,
        variational_bias: bool = True,
        kl_weight: float | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ):
        """Builds the cell.

        Args:
          units: U, the size of the output and of each state.
          activation: the activation of the cell input and output.
          recurrent_activation: the activation of the gates.
          use_bias: whether there is a bias.
          kernel_initializer: the initializer of the posterior mean of the kernel.
          recurrent_initializer: the initializer of the posterior mean of the recurrent kernel.
          bias_initializer: the initializer of the (posterior mean of the) bias.
          dropout: the rate at which inputs are dropped, by one mask for all steps (Gal and Ghahramani, 2016).
          recurrent_dropout: the same for the hidden state that enters the recurrent product.
          prior: a `Prior`, a function from a shape to a `tfd.Distribution`, or None: `FanInNormalPrior()`.
          posterior: a `VariationalFamily`; None: `MeanFieldNormal()`.
          variational_bias: whether the bias has a distribution too, as in the released code.
          kl_weight: the weight of the KL where no `BayesianModel` owns the objective; see `VariationalLayer`.
          seed: the seed of the draws that the layer makes by itself.
          **kwargs: further arguments of `keras.layers.Layer`.

        Raises:
          ValueError: if a number is out of its range, or the cell has no use for an argument.
        """
        self._check_arguments(locals())
        super().__init__(**kwargs)
        self._init_variational(prior, posterior, kl_weight, seed)
        self.units = int(units)
        self.activation = keras.activations.get(activation)
        self.recurrent_activation = keras.activations.get(recurrent_activation)
        self.use_bias = use_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.recurrent_initializer = keras.initializers.get(recurrent_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.dropout = dropout
        self.recurrent_dropout = recurrent_dropout
        self.variational_bias = variational_bias
        self.bias: VariationalWeight | None = None
        self._declared: tuple[str, ...] = ()
        self._held: tuple[Any, SequenceWeights | None] = (None, None)

    def _check_arguments(self, given: Mapping) -> None:
        if given["units"] <= 0:
            raise ValueError(f"units must be positive. Received: units={given['units']}")
        for name in ("dropout", "recurrent_dropout"):
            if not 0.0 <= given[name] < 1.0:
                raise ValueError(f"{name} must lie in [0, 1). Received: {name}={given[name]}")
        known = inspect.signature(VariationalRNNCell.__init__).parameters
        for name in self.without:
            if given[name] is not known[name].default and given[name] != known[name].default:
                raise ValueError(f"A {type(self).__name__} has no {name}. Received: {name}={given[name]!r}")

    # Methods by which a cell describes itself.

    def declare_weights(self, features: int) -> Iterable[CellWeight]:
        """Returns all weights of the cell, for inputs of D features."""
        raise NotImplementedError(f"{type(self).__name__} must define declare_weights(features)")

    @property
    def state_sizes(self) -> tuple[int, ...]:
        """The last dimension of each state, [B, size]; one state of U unless a cell says otherwise."""
        return (self.units,)

    @property
    def output_size(self) -> int:
        """The last dimension of the output; U unless a cell says otherwise."""
        return self.units

    def project(self, weights: SequenceWeights, inputs: tf.Tensor) -> tf.Tensor:
        """Computes the part of a step that does not depend on the state, from inputs [..., D] at once.

        In a sequence it is computed for all steps together: one large product in place of many small ones.
        Returns a tensor [..., any size], or a nested structure of them.
        """
        del weights
        return inputs

    def step(
        self, weights: SequenceWeights, inputs: tf.Tensor, state: Sequence[tf.Tensor]
    ) -> tuple[tf.Tensor, Sequence[tf.Tensor]]:
        """Takes one step.

        Args:
          weights: the weights by their declared names, as in `weights["kernel"]`; `weights.get` where one may
            be absent; and `weights.dropped(hidden)` for a hidden state that enters a product, which is what
            recurrent dropout leaves of it.
          inputs: the result of `project` for inputs [B, D].
          state: one tensor [B, size] for each of `state_sizes`.

        Returns:
          The output [B, output_size] and the new states, a list.
        """
        raise NotImplementedError(f"{type(self).__name__} must define step(weights, inputs, state)")

    def sequence(
        self,
        weights: SequenceWeights,
        inputs: tf.Tensor,
        state: Sequence[tf.Tensor],
        mask: tf.Tensor | None,
        go_backwards: bool,
    ) -> tuple[tf.Tensor, Sequence[tf.Tensor]]:
        """Runs a whole sequence; a cell that has a faster way than its steps one by one overrides it.

        Args:
          weights: the weights by their declared names; see `step`.
          inputs: the inputs [B, T, D], after dropout.
          state: one tensor [B, size] for each of `state_sizes`.
          mask: [B, T], boolean, or None. Where it is False the state stays as it was and the output repeats
            the one before, which is zero before the first step.
          go_backwards: whether the last step comes first; outputs come in the order computed.

        Returns:
          The outputs [B, T, output_size] and the final states, a list.
        """
        return ops.recur(
            lambda inputs, state: self._checked_step(weights, inputs, state),
            self.project(weights, inputs),
            state,
            self.output_size,
            mask=mask,
            go_backwards=go_backwards,
        )

    # Methods that Keras asks of a cell.

    def build(self, input_shape: Any) -> None:
        """Makes the declared weights."""
        features = input_shape[-1]
        if features is None:
            raise ValueError(f"the size of the inputs must be known. Received: input_shape={input_shape}")
        for declared in self.declare_weights(int(features)):
            name, initializer = declared.name, keras.initializers.get(declared.initializer)
            if not name.isidentifier() or getattr(self, name, None) is not None:
                raise ValueError(
                    f"{type(self).__name__} declares a weight by a name that is no identifier, or is taken. "
                    f"Received: name={name!r}"
                )
            weight = self._add_variational_weight(
                name, declared.shape, initializer, declared.variational, amend=declared.amend
            )
            setattr(self, name, weight)
            self._declared += (name,)

    @property
    def state_size(self) -> int | list[int]:
        """The `state_sizes` as Keras writes them: a number where there is one state."""
        return self.state_sizes[0] if len(self.state_sizes) == 1 else list(self.state_sizes)

    def get_initial_state(self, batch_size: Any = None) -> list[tf.Tensor]:
        """Returns zeros of the states' shapes, in the compute dtype."""
        return [tf.zeros((batch_size, size), self.compute_dtype) for size in self.state_sizes]

    def call(self, inputs: tf.Tensor, states: Any, training: bool = False) -> tuple[tf.Tensor, Any]:
        """Takes inputs [B, D] and a state [B, size] or a list of them; returns the output and new states."""
        is_list = keras.tree.is_nested(states)
        weights = self._step_weights(training)
        inputs, *state = (
            tf.cast(each, self.compute_dtype) for each in (inputs, *(states if is_list else [states]))
        )
        if weights.input_mask is not None:
            inputs = inputs * weights.input_mask
        output, new_state = self._checked_step(weights, self.project(weights, inputs), state)
        return output, list(new_state) if is_list else new_state[0]

    def _checked_step(
        self, weights: SequenceWeights, inputs: Any, state: Sequence[tf.Tensor]
    ) -> tuple[tf.Tensor, Sequence[tf.Tensor]]:
        """Runs `step`, and checks the states that it takes and what it returns."""
        sizes = (self.output_size, *self.state_sizes)
        if [each.shape[-1] for each in state] != list(sizes[1:]):
            raise ValueError(
                f"the states of a {type(self).__name__} must be [B, size], of sizes {list(sizes[1:])}. "
                f"Received: state={quoted(state)}"
            )
        result = self.step(weights, inputs, state)
        try:
            output, new_state = result
            found = [(each.shape[-1], each.dtype) for each in (output, *new_state)]
        except (AttributeError, TypeError, ValueError):
            found = None
        if found != [(size, tf.as_dtype(self.compute_dtype)) for size in sizes]:
            raise ValueError(
                f"{type(self).__name__}.step must return an output [B, {sizes[0]}] and a list of states "
                f"[B, size], of sizes {list(sizes[1:])}, in {self.compute_dtype}. Received: {quoted(result)}"
            )
        return output, new_state

    def _sequence_weights(
        self, draw: Draw, step_input: Any = None, training: bool = False
    ) -> SequenceWeights:
        dtype = self.compute_dtype
        masks: list[tf.Tensor | None] = [None, None]
        if step_input is not None:
            rows = tf.shape(step_input)[0]
            for i, (rate, size) in enumerate(
                ((self.dropout, step_input.shape[-1]), (self.recurrent_dropout, self.state_sizes[0]))
            ):
                seed = mask_seed(self.seed_generator, training) if rate > 0.0 else None
                if seed is not None:
                    masks[i] = dropout_mask([rows, size], rate, seed, dtype)
        values = {name: tf.cast(draw[getattr(self, name)], dtype) for name in self._declared}
        return SequenceWeights(values, *masks)

    def get_dropout_mask(self, step_input: Any) -> tf.Tensor | None:
        """Called by `keras.layers.RNN` before its loop: draws the weights and masks of this sequence."""
        context = keras_internals.forward_pass()
        training = bool(context is not None and context.get_value("training"))
        weights = self._sequence_weights(self._draw_for_call(training), step_input, training)
        self._held = context, weights
        return weights.input_mask

    def get_recurrent_dropout_mask(self, step_input: Any) -> tf.Tensor | None:
        """Called by `keras.layers.RNN` before its loop, after `get_dropout_mask`."""
        weights = self.held
        return None if weights is None else weights.recurrent_mask

    def reset_dropout_mask(self) -> None:
        """Called by `keras.layers.RNN` after its loop: the weights and masks of this sequence are over."""
        self._held = (None, None)

    def reset_recurrent_dropout_mask(self) -> None:
        """Called by `keras.layers.RNN` after its loop."""

    @property
    def held(self) -> SequenceWeights | None:
        """The weights and masks of the sequence that is being processed."""
        context, weights = self._held
        # Leftovers of a failed call do not count.
        return weights if context is keras_internals.forward_pass() else None

    def _step_weights(self, training: bool) -> SequenceWeights:
        held = self.held
        if held is not None:
            return held
        if ambient.draw_in_force() is None and training and Posterior.of(self).is_variational:
            raise ValueError(
                f"Cell {self.name!r} was stepped by itself with training=True: each step would get other "
                "weights. Put it into keras.layers.RNN, or run the steps under a draw "
                "(`posterior.sample(seed).run(steps)`). Received: training=True"
            )
        return self._sequence_weights(self._draw_for_call(training))

    def _tf_activations(self) -> dict:
        """The activations as `tfp_bayesrnn.ops` knows them: those with a gradient written by hand."""
        return {
            name: _TF_ACTIVATIONS.get(getattr(self, name), getattr(self, name))
            for name in ("activation", "recurrent_activation")
        }

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        serialize = keras.initializers.serialize
        config = {
            **self._variational_config(),
            "units": self.units,
            "activation": keras.activations.serialize(self.activation),
            "recurrent_activation": keras.activations.serialize(self.recurrent_activation),
            "use_bias": self.use_bias,
            "kernel_initializer": serialize(self.kernel_initializer),
            "recurrent_initializer": serialize(self.recurrent_initializer),
            "bias_initializer": serialize(self.bias_initializer),
            "dropout": self.dropout,
            "recurrent_dropout": self.recurrent_dropout,
            "variational_bias": self.variational_bias,
        }
        kept = {name: value for name, value in config.items() if name not in self.without}
        return {**super().get_config(), **kept}


def _handing_on(cell_class: type[VariationalRNNCell]) -> Callable[..., None]:
    """Returns a constructor that does nothing but hand its arguments on."""

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        super(cell_class, self).__init__(*args, **kwargs)

    return __init__
