"""Models as TensorFlow SavedModels, which need nothing but TensorFlow to run: in Python, C++, TF Serving.

An export is a graph of TensorFlow's own operations, a `tf.Module` with named signatures. Its weights are
those of an `ExportedPosterior`: means and, where draws are wanted, what the variational family makes them of,
such as scales; whole or pruned, in float32 or half precision (`tfp_bayesrnn.export.storage`).
`tfp_bayesrnn.export.network` holds what `BayesianModel.export` makes of a network.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from tfp_bayesrnn import noise
from tfp_bayesrnn.errors import InputError
from tfp_bayesrnn.export.draw_cache import DrawCache
from tfp_bayesrnn.export.storage import FORMATS, StoredArray
from tfp_bayesrnn.filesystem import folders
from tfp_bayesrnn.filesystem.paths import is_pattern, local_path
from tfp_bayesrnn.posterior import ambient, pruning
from tfp_bayesrnn.posterior.posterior import Draw, Posterior
from tfp_bayesrnn.posterior.weights import VariationalWeight

WEIGHTS_KINDS = ("mean", "posterior")
"""The parts of the weights to export: their means, or also what draws of them are made of."""


class ExportedPosterior:
    """The weights of a network as they are exported, and draws of them in a graph.

    `sample(seed)` is `Posterior.sample(seed)`, up to what pruning and rounding change. Weights without a
    distribution, and the network's ordinary variables, have one value.

    Attributes:
      parts: all that is stored, arrays and the cache of draws, for a `tf.Module` to hold.
      has_scales: whether there are draws.
      pruned: the share of the weights' elements that are zero.
      nbytes: the size of the arrays in a file, in bytes.
    """

    def __init__(
        self, network: keras.Model, weights: str | None = None, format: str = "float32", prune: float = 0.0
    ):
        """Stores the weights as they are now.

        Args:
          network: the network, built, of layers with `VariationalWeight`s and any others.
          weights: "mean", or "posterior" for draws too; None for the latter where any weight has a
            distribution.
          format: the stored type of values, "float32" or "float16".
          prune: the fraction of the weights, those of the lowest signal-to-noise |mu| / sigma (without any
            distribution those of the lowest magnitude), which become zero in the mean and in all draws.

        Raises:
          InputError: if the posterior is asked for where no weight has a distribution.
          ValueError: if an argument is none of those above, or weights are to be pruned whose variational
            family knows no scale.
        """
        posterior = Posterior.of(network)
        if weights is None:
            weights = "posterior" if posterior.is_variational else "mean"
        if weights not in WEIGHTS_KINDS:
            raise ValueError(f"weights must be one of {WEIGHTS_KINDS}. Received: weights={weights!r}")
        if format not in FORMATS:
            raise ValueError(f"format must be one of {FORMATS}. Received: format={format!r}")
        if not 0.0 <= prune < 1.0:
            raise ValueError(f"prune must be at least 0 and less than 1. Received: prune={prune}")
        self.has_scales = weights == "posterior"
        if self.has_scales and not posterior.is_variational:
            raise InputError("weights='posterior': no weight of the model has a distribution; accepted: mean")
        masks = _masks(posterior, prune) if prune else {}
        self.posterior = posterior
        self._means = [self._store(weight.mean(), masks.get(weight), format) for weight in posterior.weights]
        self._beside_means = {
            weight: self._stored(weight, masks.get(weight), format)
            for weight in (posterior.variational if self.has_scales else ())
        }
        ours = {id(variable) for weight in posterior.weights for variable in weight.variables}
        self._others = [variable for variable in network.weights if id(variable) not in ours]
        self._paths = {id(variable): variable.path for variable in network.variables}
        self._values = [self._store(variable.value, None, format) for variable in self._others]
        beside = [array for stored in self._beside_means.values() for array in stored.values()]
        # A family may store its mean among other arrays.
        self._arrays = list(dict.fromkeys([*self._means, *beside, *self._values]))
        self._cache = DrawCache([weight.shape for weight in self._beside_means])
        self.parts = [*self._arrays, *([self._cache] if self.has_scales else [])]
        self._sampled = tf.function(self._sample, [tf.TensorSpec([2], tf.int32)], autograph=False)
        elements = [mean.read().numpy() for mean in self._means]
        size = sum(array.size for array in elements)
        self.pruned = sum(np.count_nonzero(array == 0) for array in elements) / size if size else 0.0

    @staticmethod
    def _store(value: tf.Tensor, mask: np.ndarray | None, format: str) -> StoredArray:
        array = tf.convert_to_tensor(value).numpy()
        return StoredArray(array if mask is None else np.where(mask, array, np.zeros_like(array)), format)

    def _stored(
        self, weight: VariationalWeight, mask: tf.Tensor | None, format: str
    ) -> dict[str, StoredArray]:
        """Stores what the weight's family needs beside the mean; an array that is the mean is stored once."""
        mean = self._means[self.posterior.weights.index(weight)]
        known: np.ndarray | None = weight.mean().numpy() if mask is None else None
        found: dict[str, StoredArray] = {}
        for name, value in weight.exported(mask).items():
            array = value.numpy()
            is_mean = known is not None and array.dtype == np.float32 and np.array_equal(array, known)
            found[name] = mean if is_mean else StoredArray(array, format)
        return found

    @property
    def nbytes(self) -> int:
        """The size of the arrays in a file, in bytes."""
        return sum(array.nbytes for array in self._arrays)

    def mean(self) -> Draw:
        """The posterior mean."""
        means = (mean.read() for mean in self._means)
        return Draw(dict(zip(self.posterior.weights, means, strict=True)))

    def sample(self, seed: tf.Tensor) -> Draw:
        """Returns a draw, under which dropout is off.

        Args:
          seed: the draw's seed, int32 [2].

        Raises:
          ValueError: if there are no scales.
        """
        if not self.has_scales:
            raise ValueError("An export of the means has no draws. Received: weights='mean'")
        place = self._cache.place(seed)
        values = tf.cond(place < 0, lambda: self._sampled(seed), lambda: self._kept(place))
        return Draw(dict(zip(self.posterior.weights, values, strict=True)))

    def keep_draws(self, num_samples: tf.Tensor, root: tf.Tensor) -> dict[str, tf.Tensor]:
        """Makes draws and keeps them, in place of those kept before, for `sample` to find by their seeds.

        Args:
          num_samples: S, their number, an int32 scalar: draw s is that of the seed `derive(root, s)`. With 0
            none is kept.
          root: a seed, int32 [2].

        Returns:
          What a signature gives that does this: their number.
        """
        message = "num_samples must not be negative. Received: num_samples ="
        with tf.control_dependencies([require(num_samples >= 0, message, num_samples)]):
            places = tf.range(num_samples)
        seeds = tf.map_fn(lambda place: noise.derive(root, place), places)
        weights = list(self._beside_means)

        def sample(seed: tf.Tensor) -> list[tf.Tensor]:
            values = dict(zip(self.posterior.weights, self._sampled(seed), strict=True))
            return [values[weight] for weight in weights]

        self._cache.fill(tf.reshape(seeds, [-1, 2]), sample)
        return {"num_samples": tf.identity(num_samples)}

    def _kept(self, place: tf.Tensor) -> list[tf.Tensor]:
        return list(
            (dict(self.mean()) | dict(zip(self._beside_means, self._cache.read(place), strict=True))).values()
        )

    def _sample(self, seed: tf.Tensor) -> list[tf.Tensor]:
        values = dict(self.mean())
        for weight, epsilon in self.posterior.noise(seed).items():
            stored = {name: array.read() for name, array in self._beside_means[weight].items()}
            values[weight] = weight.posterior.exported_sample(values[weight], stored, epsilon)
        return list(values.values())

    def function(self, run: Callable, signature: Sequence[tf.TensorSpec]) -> Callable:
        """Makes `run` a function that takes a draw first, and is in the graph once however often called.

        Args:
          run: a function of tensors, called with the draw in force.
          signature: the specs of its arguments.
        """
        specs = [tf.TensorSpec(weight.shape, tf.float32) for weight in self.posterior.weights]

        def under(values: Any, *arguments: Any) -> Any:
            with self.in_force(Draw(dict(zip(self.posterior.weights, values, strict=True)))):
                return run(*arguments)

        traced = tf.function(under, input_signature=[specs, *signature], autograph=False)
        return lambda draw, *arguments: traced([draw[w] for w in self.posterior.weights], *arguments)

    @contextlib.contextmanager
    def in_force(self, draw: Draw) -> Iterator[None]:
        """Within this context the network runs under the draw, with the stored values of its variables.

        Raises:
          ValueError: if the network changes a variable: an export holds values, and has no state.
        """
        others = [
            (variable, value.read()) for variable, value in zip(self._others, self._values, strict=True)
        ]
        with keras.StatelessScope(others, initialize_variables=False) as scope, ambient.under(draw):
            before = dict(scope.state_mapping)
            yield
        changed = [key for key, value in scope.state_mapping.items() if before.get(key) is not value]
        if changed:
            names = sorted({self._paths.get(key, "a state") for key in changed})
            raise ValueError(
                "A network whose calls change its variables, as stateful layers and layers with random "
                "numbers of their own do, cannot be exported as a SavedModel of its posterior, whose calls "
                f"have no state. keras.export.ExportArchive keeps one. Received: changed variables={names}"
            )


def _masks(posterior: Posterior, fraction: float) -> Mapping[Any, np.ndarray]:
    by = "signal_to_noise" if posterior.is_variational else "magnitude"
    return pruning.masks(posterior, fraction, by=by)


def require(condition: tf.Tensor, message: str, *values: tf.Tensor) -> tf.Operation:
    """Returns an operation that ends a call with the message and the values if the condition fails."""
    return tf.debugging.Assert(condition, [message, *values], summarize=8)


def write_saved_model(
    path: str | os.PathLike[str],
    module: tf.Module,
    signatures: Mapping[str, Callable],
    finish: Callable[[Path], None] = lambda directory: None,
) -> None:
    """Writes a SavedModel so that `path` holds, whatever happens, what was there before or all of it.

    Args:
      path: the SavedModel's directory. A SavedModel that is there is replaced.
      module: the holder of the variables, the tables and the resources that the signatures use.
      signatures: name -> `tf.function` with an input signature.
      finish: a function that adds files, called with the directory before that takes its place.

    Raises:
      InputError: if something else is at the path, it cannot be written, or TensorFlow would not find it.
    """
    path = local_path(path)
    check_replaceable(path)
    try:
        with folders.replacing(path) as new:
            options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
            tf.saved_model.save(module, os.fspath(new), signatures=dict(signatures), options=options)
            _forget_gradients(new)
            finish(new)
    except (OSError, tf.errors.OpError) as error:
        reason = getattr(error, "strerror", None) or getattr(error, "message", None) or error
        raise InputError(f"cannot write the export {path}: {reason}") from error


def check_replaceable(path: str | os.PathLike[str]) -> None:
    """Checks that an export may be written at a path: there is nothing, an empty directory or a SavedModel.

    Raises:
      InputError: if there is something else, or TensorFlow would not find an export there.
    """
    path = local_path(path)
    if is_pattern(path):
        raise InputError(
            f"{path} is not accepted for an export: TensorFlow takes [ and \\ in a path for those of a "
            "pattern, and would not find it; give another path"
        )
    try:
        is_replaced = (path / "saved_model.pb").is_file() or not path.exists()
        is_free = is_replaced or (path.is_dir() and not any(path.iterdir()))
    except OSError as error:
        raise InputError(f"cannot write the export {path}: {error.strerror}") from error
    if not is_free:
        raise InputError(f"{path} is not replaced by an export: it is no SavedModel; give another path")


def _forget_gradients(directory: Path) -> None:
    """Removes the names of custom gradients, which are not saved, from the graph: loading it would warn."""
    path = directory / "saved_model.pb"
    model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    for graph in model.meta_graphs:
        for function in graph.graph_def.library.function:
            for node in function.node_def:
                node.attr.pop("_gradient_op_type", None)
    path.write_bytes(model.SerializeToString(deterministic=True))
    (directory / "fingerprint.pb").unlink(missing_ok=True)  # It is the fingerprint of the file before.
