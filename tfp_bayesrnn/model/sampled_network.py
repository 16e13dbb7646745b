"""A network's outputs under S draws of its weights, by one compiled function."""

from __future__ import annotations

from typing import Any, NamedTuple

import keras
import tensorflow as tf

from tfp_bayesrnn import noise
from tfp_bayesrnn.model import training as steps
from tfp_bayesrnn.objective import outputs as outputs_of
from tfp_bayesrnn.posterior import ambient
from tfp_bayesrnn.posterior.posterior import Draw, Posterior
from tfp_bayesrnn.prediction.draws import FreshDraws


class UnderDraws(NamedTuple):
    """What a network gives for a minibatch under each of S draws."""

    outputs: Any  # Float32 [S, B, ...] each, in their structure.
    masks: Any  # The masks of the outputs, [B, ...] or None, in the same structure.
    penalty: tf.Tensor  # Of the network's regularisers, the average over the draws; float32.


class SampledNetwork:
    """Runs a network under draws that depend on a seed alone; it keeps what it has compiled.

    Draw s is `posterior.sample(derive(root, s))`, with its masks of dropout, where `root` is that of
    `StreamEvaluator.average` and of an export's `serve_mc`. Each is made anew for every minibatch, so memory
    is that of one draw.
    """

    def __init__(self, network: keras.Model):
        """Takes the network, built."""
        self._network = network
        self._functions: dict[Any, _CompiledRun] = {}

    def run(self, inputs: Any, num_samples: int, seed: int) -> UnderDraws:
        """Runs the network under each draw.

        Args:
          inputs: a minibatch of inputs, as the network takes them.
          num_samples: S.
          seed: the seed of the draws.
        """
        posterior = Posterior.of(self._network)
        inputs = keras.tree.map_structure(tf.convert_to_tensor, inputs)
        specs = keras.tree.map_structure(_of_any_rows, inputs)
        # A pruned weight's mask is part of the graph.
        pruned = frozenset(id(weight) for weight in posterior.weights if weight.is_pruned)
        key = (str(specs), pruned, tf.config.functions_run_eagerly())
        if key not in self._functions:
            self._functions[key] = _CompiledRun(self._network, specs)
        root = noise.derive(noise.make_seed(seed), noise.Stream.EVALUATION_DRAWS)
        return self._functions[key].run(inputs, tf.constant(num_samples), root)


class _CompiledRun:
    """A run for inputs of one signature. Tracing finds the structure of its outputs and which have masks."""

    def __init__(self, network: keras.Model, specs: Any):
        self._network = network
        signature = [specs, tf.TensorSpec([], tf.int32), tf.TensorSpec([2], tf.int32)]
        self._function = tf.function(self._under_each, input_signature=signature, autograph=False)
        self._structure: Any = None
        self._has_mask: list[bool] = []

    def run(self, inputs: Any, num_samples: tf.Tensor, root: tf.Tensor) -> UnderDraws:
        outputs, masks, penalties = self._function(inputs, num_samples, root)
        outputs = [tf.transpose(one, [1, 0, *range(2, one.shape.rank)]) for one in outputs]
        found = iter(masks)
        masks = [next(found)[:, 0] if has else None for has in self._has_mask]
        outputs, masks = (keras.tree.pack_sequence_as(self._structure, each) for each in (outputs, masks))
        return UnderDraws(outputs, masks, tf.reduce_mean(penalties))

    def _under_each(
        self, inputs: Any, num_samples: tf.Tensor, root: tf.Tensor
    ) -> tuple[list, list, tf.Tensor]:
        draws = FreshDraws(Posterior.of(self._network), num_samples, root, dropout=True)

        def run(draw: Draw) -> tuple[list, list, tf.Tensor]:
            with ambient.under(draw):
                outputs = self._network(inputs, training=False)
            masks = keras.tree.flatten(outputs_of.masks(outputs))
            self._structure = keras.tree.map_structure(lambda _: 0, outputs)
            self._has_mask = [mask is not None for mask in masks]
            floats = [tf.cast(one, tf.float32) for one in keras.tree.flatten(outputs)]
            penalty = tf.add_n([tf.zeros([]), *steps.penalties_of(self._network)])
            return floats, [mask for mask in masks if mask is not None], penalty[None]

        return draws.start(run)


def _of_any_rows(value: tf.Tensor) -> tf.TensorSpec:
    return tf.TensorSpec([None, *value.shape[1:]], value.dtype)
