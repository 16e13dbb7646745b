"""Models as TensorFlow SavedModels, which need nothing but TensorFlow to run: in Python, C++, TF Serving.

What is exported is a graph of TensorFlow's own operations, a `tf.Module` with named signatures. The weights
in it are those of an `ExportedPosterior`: means and, where draws are wanted, scales; whole or pruned, in
float32 or half precision (`tfp_bayesrnn.storage`). `export_network` is `BayesianModel.export`.
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

from tfp_bayesrnn import folders, likelihoods, noise, pruning, uncertainty
from tfp_bayesrnn.errors import InputError
from tfp_bayesrnn.exported_draws import FreshDraws, check_samples
from tfp_bayesrnn.posterior import WEIGHTS, Draw, Posterior, standard_normals
from tfp_bayesrnn.storage import FORMATS, StoredArray

WEIGHTS_KINDS = ("mean", "posterior")
"""What can be exported of the weights: their means, or their means and scales."""

# The draws of `serve_mc` are those of `StreamEvaluator.average` for the same seed.
_SAMPLES = -1


class ExportedPosterior:
    """The weights of a network as they are exported, and draws of them in a graph.

    `sample(seed)` is `Posterior.sample(seed)`, up to what pruning and rounding change. Weights without a
    distribution, and the network's ordinary variables, have one value.

    Attributes:
      arrays: all that is stored, for a `tf.Module` to hold.
      has_scales: whether there are draws.
      pruned: the share of the weights' elements that are zero.
      nbytes: what the arrays take in a file.
    """

    def __init__(
        self, network: keras.Model, weights: str | None = None, format: str = "float32", prune: float = 0.0
    ):
        """Stores the weights as they are now.

        Args:
          network: built; layers with `VariationalWeight`s, and any others.
          weights: "mean", or "posterior" for the scales too; None for the latter where any weight has a
            distribution.
          format: what values are stored as, "float32" or "float16".
          prune: the fraction of the weights, those of the lowest signal-to-noise |mu| / sigma (without any
            distribution those of the lowest magnitude), whose mean and scale become zero.

        Raises:
          InputError: the posterior is asked for where no weight has a distribution.
          ValueError: for arguments outside of what is said here.
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
        self._scales = {
            weight: self._store(weight.scale(), masks.get(weight), format)
            for weight in (posterior.variational if self.has_scales else ())
        }
        ours = {id(variable) for weight in posterior.weights for variable in weight.variables}
        self._others = [variable for variable in network.weights if id(variable) not in ours]
        self._values = [self._store(variable.value, None, format) for variable in self._others]
        self.arrays = [*self._means, *self._scales.values(), *self._values]
        self._sampled = tf.function(self._sample, [tf.TensorSpec([2], tf.int32)], autograph=False)
        elements = [mean.read().numpy() for mean in self._means]
        size = sum(array.size for array in elements)
        self.pruned = sum(np.count_nonzero(array == 0) for array in elements) / size if size else 0.0

    @staticmethod
    def _store(value, mask, format) -> StoredArray:
        array = tf.convert_to_tensor(value).numpy()
        return StoredArray(array if mask is None else np.where(mask, array, np.zeros_like(array)), format)

    @property
    def nbytes(self) -> int:
        """What the arrays take in a file."""
        return sum(array.nbytes for array in self.arrays)

    def mean(self) -> Draw:
        """The posterior mean."""
        means = (mean.read() for mean in self._means)
        return Draw(dict(zip(self.posterior.weights, means, strict=True)))

    def sample(self, seed: tf.Tensor) -> Draw:
        """A draw; dropout is off under it.

        Args:
          seed: int32 [2].

        Raises:
          ValueError: where there are no scales.
        """
        if not self.has_scales:
            raise ValueError("A draw needs the scales. Received: weights='mean'")
        return Draw(dict(zip(self.posterior.weights, self._sampled(seed), strict=True)))

    def _sample(self, seed: tf.Tensor) -> list[tf.Tensor]:
        values = dict(self.mean())
        for weight, epsilon in standard_normals(self.posterior.variational, seed, WEIGHTS).items():
            values[weight] += self._scales[weight].read() * epsilon
        return list(values.values())

    def function(self, run: Callable, signature: Sequence[tf.TensorSpec]) -> Callable:
        """`run` as a function that takes a draw first, and is in the graph once, however often it is called.

        Args:
          run: takes tensors; called with the draw in force.
          signature: of what it takes.
        """
        specs = [tf.TensorSpec(weight.shape, tf.float32) for weight in self.posterior.weights]

        def under(values, *arguments):
            with self.in_force(Draw(dict(zip(self.posterior.weights, values, strict=True)))):
                return run(*arguments)

        traced = tf.function(under, input_signature=[specs, *signature], autograph=False)
        return lambda draw, *arguments: traced([draw[w] for w in self.posterior.weights], *arguments)

    @contextlib.contextmanager
    def in_force(self, draw: Draw) -> Iterator[None]:
        """Within this context the network runs under the draw, and with what is stored of its variables."""
        others = [
            (variable, value.read()) for variable, value in zip(self._others, self._values, strict=True)
        ]
        with keras.StatelessScope(others, initialize_variables=False), draw.in_force():
            yield


def _masks(posterior: Posterior, fraction: float) -> Mapping[Any, np.ndarray]:
    by = "signal_to_noise" if posterior.is_variational else "magnitude"
    return pruning.masks(posterior, fraction, by=by)


def require(condition: tf.Tensor, message: str, *values: tf.Tensor) -> tf.Operation:
    """An operation that ends a call with the message and the values, where the condition fails."""
    return tf.debugging.Assert(condition, [message, *values], summarize=8)


def write_saved_model(
    path: str | os.PathLike[str],
    module: tf.Module,
    signatures: Mapping[str, Callable],
    finish: Callable[[Path], None] = lambda directory: None,
) -> None:
    """Writes a SavedModel so that at `path` there is, whatever happens, what was there before or all of it.

    Args:
      path: of its directory. A SavedModel that is there is replaced.
      module: what holds the variables, the tables and the resources that the signatures use.
      signatures: name -> `tf.function` with an input signature.
      finish: called with the directory before that takes its place, to add files.

    Raises:
      InputError: there is something else at the path, or it cannot be written.
    """
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
    """Sees that an export may be written at a path: there is nothing, an empty directory or a SavedModel.

    Raises:
      InputError: there is something else.
    """
    path = Path(path)
    if (
        path.exists()
        and not (path / "saved_model.pb").is_file()
        and (not path.is_dir() or any(path.iterdir()))
    ):
        raise InputError(f"{path} is not replaced by an export: it is no SavedModel; give another path")


def _forget_gradients(directory: Path) -> None:
    """Takes the names of custom gradients, which are not saved, out of the graph: loading it would warn."""
    path = directory / "saved_model.pb"
    model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    for graph in model.meta_graphs:
        for function in graph.graph_def.library.function:
            for node in function.node_def:
                node.attr.pop("_gradient_op_type", None)
    path.write_bytes(model.SerializeToString(deterministic=True))
    (directory / "fingerprint.pb").unlink(missing_ok=True)  # Of the file before.


def export_network(
    network: keras.Model,
    likelihood: Callable,
    path: str | os.PathLike[str],
    weights: str | None = None,
    format: str = "float32",
    prune: float = 0.0,
    input_signature: Any = None,
) -> ExportedPosterior:
    """Exports any network; see `BayesianModel.export`.

    Args:
      network: built.
      likelihood: of its outputs; what draws are averaged to depends on it.
      path: of the SavedModel's directory.
      weights: as for `ExportedPosterior`.
      format: as for `ExportedPosterior`.
      prune: as for `ExportedPosterior`.
      input_signature: a `tf.TensorSpec` or a dictionary of them; None for the network's own inputs.

    Raises:
      InputError: as `ExportedPosterior` and `write_saved_model` do.
      ValueError: the network does not say what its inputs are, and no `input_signature` does.
    """
    specs = _input_specs(network, input_signature)
    exported = ExportedPosterior(network, weights, format, prune)

    def outputs(draw, inputs):
        with exported.in_force(draw):
            return network(inputs["inputs"] if list(inputs) == ["inputs"] else inputs, training=False)

    def serve(**inputs):
        return _named(outputs(exported.mean(), inputs))

    def serve_mc(num_samples, seed, **inputs):
        root = noise.derive(noise.make_seed(seed), _SAMPLES)
        draws = FreshDraws(exported, check_samples(num_samples), root)
        return _average(draws, lambda draw: outputs(draw, inputs), likelihood)

    scalars = {name: tf.TensorSpec([], tf.int32) for name in ("num_samples", "seed")}
    signatures = {"serve": _traced(serve, specs)}
    signatures["serving_default"] = signatures["serve"]
    if exported.has_scales:
        signatures["serve_mc"] = _traced(serve_mc, {**specs, **scalars})
    module = tf.Module()
    module.arrays = exported.arrays
    single = list(specs) == ["inputs"]
    # What Keras's own exports have too: `loaded.serve(inputs)`.
    module.serve = tf.function(
        lambda inputs: outputs(exported.mean(), {"inputs": inputs} if single else inputs),
        input_signature=[specs["inputs"] if single else specs],
        autograph=False,
    )
    write_saved_model(path, module, signatures)
    return exported


def _traced(function: Callable, specs: Mapping[str, tf.TensorSpec]):
    return tf.function(function, autograph=False).get_concrete_function(**specs)


def _input_specs(network: keras.Model, input_signature: Any) -> dict[str, tf.TensorSpec]:
    """Name -> what a network takes; a single tensor is called "inputs"."""
    if input_signature is None:
        tensors = getattr(network, "inputs", None)
        if not tensors:
            raise ValueError(
                "The network does not say what its inputs are: give input_signature=tf.TensorSpec(...), or a "
                f"dictionary of them. Received: network={network.name!r}, input_signature=None"
            )
        specs = [tf.TensorSpec(tensor.shape, tensor.dtype) for tensor in tensors]
        if len(specs) == 1:
            return {"inputs": specs[0]}
        return {tensor.name: spec for tensor, spec in zip(tensors, specs, strict=True)}
    if isinstance(input_signature, Mapping):
        return dict(input_signature)
    return {"inputs": input_signature}


def _named(outputs: Any, name: str = "outputs") -> dict[str, tf.Tensor]:
    if isinstance(outputs, Mapping):
        return dict(outputs)
    if isinstance(outputs, list | tuple):
        return {f"{name}_{place}": output for place, output in enumerate(outputs)}
    return {name: outputs}


def _average(draws: FreshDraws, make: Callable[[Draw], Any], likelihood: Callable) -> dict[str, tf.Tensor]:
    """What draws say together: for a discrete likelihood its probabilities, else mean and variance."""
    count = tf.cast(draws.num_samples, tf.float32)
    if likelihood in (likelihoods.categorical, likelihoods.bernoulli):

        def add(sums, logits, place):
            del place
            logits = tf.cast(logits, tf.float32)
            if likelihood is likelihoods.categorical:
                log_probs = tf.nn.log_softmax(logits)
            else:
                log_probs = tf.math.log_sigmoid(tf.stack([-logits, logits], axis=-1))
            probabilities = tf.exp(log_probs)
            entropy = uncertainty.entropy(log_probs)
            return (probabilities, entropy) if sums is None else (sums[0] + probabilities, sums[1] + entropy)

        probabilities, entropies = draws.reduce(make, add)
        average = probabilities / count
        total = -tf.reduce_sum(tf.math.xlogy(average, average), axis=-1)
        epistemic = tf.where(count == 1.0, tf.zeros_like(total), tf.maximum(total - entropies / count, 0.0))
        return {"probabilities": average, "entropy": total, "mutual_information": epistemic}

    def add_moments(sums, outputs, place):
        # Welford (1962): no difference of large sums.
        outputs = tf.nest.map_structure(lambda value: tf.cast(value, tf.float32), _named(outputs))
        if sums is None:
            return outputs, tf.nest.map_structure(tf.zeros_like, outputs)
        means, squares = sums
        before = tf.nest.map_structure(tf.subtract, outputs, means)
        step = tf.cast(place + 1, tf.float32)
        means = tf.nest.map_structure(lambda mean, difference: mean + difference / step, means, before)
        after = tf.nest.map_structure(tf.subtract, outputs, means)
        squares = tf.nest.map_structure(lambda so_far, a, b: so_far + a * b, squares, before, after)
        return means, squares

    means, squares = draws.reduce(make, add_moments)
    variances = {
        f"{name}_variance": tf.math.divide_no_nan(value, count - 1.0) for name, value in squares.items()
    }
    return {**means, **variances}
