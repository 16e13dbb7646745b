"""Every private name of Keras and TensorFlow that the library uses, each with the reason why.

None of them has a public counterpart that does the same. Nothing else in `tfp_bayesrnn` and `zoo` may touch a
private name; `tests/tfp_bayesrnn/keras_internals_test.py` holds that, and says for each name what breaks when
Keras changes it. pyproject.toml bounds the versions to those that were tried.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
import tensorflow as tf
from keras.src.backend.common import global_state

# `keras.layers.RNN` makes its dropout masks before its loop for cells of this class alone: the one hook that
# is called once a sequence and outside the loop, which is where a draw has to be made.
from keras.src.layers.rnn.dropout_rnn_cell import DropoutRNNCell

# No public class tells what `keras.Model(inputs, outputs)` makes from a subclass of `keras.Model`.
from keras.src.models.functional import Functional

__all__ = ["DropoutRNNCell", "Functional"]


# Layers.


def layers_within(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
    """A layer and all layers inside it, at any depth: `Model.layers` knows only those that a model lists."""
    return layer._flatten_layers()


def layers_directly_within(layer: keras.layers.Layer) -> list[keras.layers.Layer]:
    """The layers that a layer holds itself, those in lists and dictionaries among them."""
    return layer._flatten_layers(include_self=False, recursive=False)


def takes_training(layer: keras.layers.Layer) -> bool:
    """Whether `layer.call` has an argument `training`: Keras has looked for it already."""
    return layer._call_has_training_arg


@contextlib.contextmanager
def adding_variables(layer: keras.layers.Layer) -> Iterator[None]:
    """Within this context a layer that is built can add variables, as Keras's own quantised layers do."""
    layer._tracker.unlock()
    try:
        yield
    finally:
        layer._tracker.lock()


def forget_variable(layer: keras.layers.Layer, variable: keras.Variable) -> None:
    """Takes a variable away from a layer that is built; `del` would leave it among the weights."""
    layer._untrack_variable(variable)


def forward_pass() -> Any:
    """The context that Keras makes for an outermost call and shares with all calls within; None outside.

    Keras offers no other way to tell one outermost call from the next.
    """
    return global_state.get_global_attribute("current_call_ctx")


# Tensors, and the graphs that they are in.


def is_control_flow(graph: tf.Graph) -> bool:
    """Whether `graph` is the body of a loop or branch, a part of the graph around it, and not a function's.

    TensorFlow has no public name for these graphs.
    """
    return type(graph).__name__ in ("CondBranchFuncGraph", "WhileCondFuncGraph", "WhileBodyFuncGraph")


def mask_of(tensor: Any) -> tf.Tensor | None:
    """The mask that a layer has handed on with its output: Keras keeps it on the tensor, and nowhere else."""
    return getattr(tensor, "_keras_mask", None)


def _float_mask_of(tensor: Any) -> tf.Tensor | None:
    mask = mask_of(tensor)
    return None if mask is None else tf.cast(mask, tf.float32)


def set_mask(tensor: Any, mask: tf.Tensor | None) -> None:
    """Hands a mask on with a tensor."""
    tensor._keras_mask = mask


def operation_of(tensor: keras.KerasTensor) -> keras.Operation:
    """The operation that a symbolic tensor of a functional network is an output of."""
    return tensor._keras_history.operation


def output_shape_of(layer: keras.layers.Lambda) -> Any:
    """The output shape that a `Lambda` was given: its configuration has it in a serialised form alone."""
    return layer._output_shape


# Models.


class Model(keras.Model):
    """A `keras.Model` that gives names of ours to the private parts that `BayesianModel` needs."""

    def _maybe_symbolic_build(self, iterator: Any = None, data_batch: Any = None) -> None:
        if iterator is not None:
            self.begins_to_read(iterator)
        super()._maybe_symbolic_build(*self.example_for_build(iterator, data_batch))

    def begins_to_read(self, iterator: Any) -> None:
        """Is called by `fit` and `evaluate` with Keras's iterator, before anything is built or traced.

        No public function is told what `fit` has made of its arguments.
        """

    def example_for_build(self, iterator: Any, data_batch: Any) -> tuple[Any, Any]:
        """The iterator, or the minibatch, from whose shapes Keras builds a model before its first step."""
        return iterator, data_batch

    def build_for(self, data_batch: Any) -> None:
        """Builds all that a step uses, the optimizer and the metrics too, from the shapes of a minibatch.

        The public `build` makes the network's variables alone.
        """
        self._symbolic_build(data_batch=data_batch)

    @property
    def loss_tracker(self) -> keras.metrics.Mean:
        """The metric `loss`, which Keras makes and reports: a second one of that name would be refused."""
        return self._loss_tracker

    @property
    def has_compiled_metrics(self) -> bool:
        """Whether `compile` was given metrics; `metrics` lists the model's own too."""
        return self._compile_metrics is not None

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> dict[str, Any]:
        """Updates the metrics as Keras does, but that the masks of outputs weigh all of them.

        Keras leaves them to the metrics, of which only those that are the mean of a function heed them: AUC,
        precision or a root mean square would count padding.

        Args:
          x: the inputs, which no metric sees.
          y: the targets, in the structure of the outputs.
          y_pred: the outputs.
          sample_weight: None, or the weights in the structure of the outputs, with their masks in them.
        """
        masks = keras.tree.map_structure(_float_mask_of, y_pred)
        metrics: Any = self._compile_metrics
        if metrics is None or all(mask is None for mask in keras.tree.flatten(masks)):
            return super().compute_metrics(x, y, y_pred, sample_weight)
        if not metrics.built:
            metrics.build(y, y_pred)
        weights = masks if sample_weight is None else sample_weight
        columns = [metrics._flatten_y(each) for each in (y, y_pred, masks, weights)]
        both = metrics._flat_metrics, metrics._flat_weighted_metrics
        for plain, weighted, *seen, mask, weight in zip(*both, *columns, strict=True):
            if plain is not None:
                plain.update_state(*seen, mask)
            if weighted is not None:
                weighted.update_state(*seen, mask if weight is None else weight)
        return self.get_metrics_result()

    def forget_compiled_metrics(self) -> None:
        """Drops the metrics of an earlier `compile`, which a later one without metrics would keep."""
        self._compile_metrics = None


def set_initial_epoch(model: keras.Model, epoch: int | None) -> None:
    """Has the `fit` that is about to begin start from an epoch: callbacks are called after its arguments."""
    model._initial_epoch = epoch


# Optimizers.


def minibatches_seen(optimizer: keras.optimizers.Optimizer) -> tf.Tensor:
    """Minibatches so far, int64; the public `iterations` counts updates, of which each may take several."""
    return optimizer._iterations.value


def learning_rate_given(optimizer: keras.optimizers.Optimizer) -> Any:
    """The learning rate as it was given; the public `learning_rate` of a schedule is its present value."""
    return optimizer._learning_rate


def moving_averages(optimizer: keras.optimizers.Optimizer) -> list[tuple[keras.Variable, keras.Variable]]:
    """Each variable that an optimizer moves with its moving average; none where it keeps no averages."""
    if not optimizer.use_ema:
        return []
    return list(zip(optimizer._trainable_variables, optimizer._model_variables_moving_average, strict=True))


def take_summed_gradients(optimizer: keras.optimizers.Optimizer) -> None:
    """Keeps an optimizer from summing over replicas what has been summed, and clipped, before it came."""
    optimizer._all_reduce_sum_gradients = lambda gradients_and_variables: gradients_and_variables
