"""A network's outputs under S draws of its weights, by one compiled function."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from tfp_bayesrnn import noise
from tfp_bayesrnn.objective import outputs as outputs_of
from tfp_bayesrnn.posterior import ambient
from tfp_bayesrnn.posterior.posterior import Draw, Posterior
from tfp_bayesrnn.prediction.draws import FreshDraws


class SampledNetwork:
    """Runs a network under draws that depend on a seed alone; it keeps what it has compiled.

    Draw s is `posterior.sample(derive(root, s))`, with its masks of dropout, where `root` is that of
    `StreamEvaluator.average` and of an export's `serve_mc`. Each is made anew for every minibatch, so memory
    is that of one draw.
    """

    def __init__(self, network: keras.Model):
        """Takes the network, built."""
        self._network = network
        self._functions: dict[Any, Any] = {}
        self._structure: Any = None  # That of outputs and masks.

    def outputs(self, inputs: Any, num_samples: int, seed: int) -> tuple[Any, Any]:
        """The outputs under each draw, float32 [S, B, ...], and their masks [B, ...], in their structure.

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
            scalar = tf.TensorSpec([], tf.int32)
            self._functions[key] = tf.function(
                self._run, input_signature=[specs, scalar, tf.TensorSpec([2], tf.int32)], autograph=False
            )
        root = noise.derive(noise.make_seed(seed), noise.Stream.EVALUATION_DRAWS)
        outputs, masks = self._functions[key](inputs, tf.constant(num_samples), root)
        outputs = [tf.transpose(one, [1, 0, *range(2, one.shape.rank)]) for one in outputs]
        first, has_mask = self._structure
        flat, masks = [], [mask[:, 0] for mask in masks]
        for has in has_mask:
            flat.append(masks.pop(0) if has else None)
        return tuple(keras.tree.pack_sequence_as(first, each) for each in (outputs, flat))

    def _run(self, inputs: Any, num_samples: tf.Tensor, root: tf.Tensor) -> tuple[list, list]:
        draws = FreshDraws(Posterior.of(self._network), num_samples, root, dropout=True)

        def run(draw: Draw) -> tuple[list, list]:
            with ambient.under(draw):
                outputs = self._network(inputs, training=False)
            masks = keras.tree.flatten(outputs_of.masks(outputs))
            self._structure = keras.tree.map_structure(lambda _: 0, outputs), [m is not None for m in masks]
            floats = [tf.cast(one, tf.float32) for one in keras.tree.flatten(outputs)]
            return floats, [mask for mask in masks if mask is not None]

        return draws.start(run)


def _of_any_rows(value: tf.Tensor) -> tf.TensorSpec:
    return tf.TensorSpec([None, *value.shape[1:]], value.dtype)
