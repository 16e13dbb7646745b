"""Exports a network as a SavedModel, for `BayesianModel.export`: what its signatures take and return."""

from __future__ import annotations

import dataclasses
import keyword
import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from tfp_bayesrnn import noise
from tfp_bayesrnn.export.saved_model import ExportedPosterior, write_saved_model
from tfp_bayesrnn.noise import Stream
from tfp_bayesrnn.objective import outputs as outputs_of
from tfp_bayesrnn.objective.likelihoods import BernoulliLikelihood, CategoricalLikelihood, Likelihood
from tfp_bayesrnn.posterior.posterior import Draw
from tfp_bayesrnn.prediction.averages import Moments, Probabilities, Variances
from tfp_bayesrnn.prediction.draws import FreshDraws, check_samples

_SCALARS = {name: tf.TensorSpec([], tf.int32, name=name) for name in ("num_samples", "seed")}


def export_network(
    network: keras.Model,
    likelihood: Any,
    path: str | os.PathLike[str],
    weights: str | None = None,
    format: str = "float32",
    prune: float = 0.0,
    input_signature: Any = None,
) -> ExportedPosterior:
    """Exports any network; see `BayesianModel.export`.

    Args:
      network: the network, built.
      likelihood: the likelihood of its outputs, or a structure of those; it decides what draws are averaged
        to.
      path: the SavedModel's directory.
      weights: the weights to store, "mean" or "posterior"; see `ExportedPosterior`.
      format: the stored type of values; see `ExportedPosterior`.
      prune: the fraction of the weights to prune; see `ExportedPosterior`.
      input_signature: the `tf.TensorSpec`s of the inputs, as the network takes them; None for those it was
        built with.

    Raises:
      InputError: where `ExportedPosterior` and `write_saved_model` raise it.
      ValueError: if neither the network nor `input_signature` says what its inputs are, a name cannot be one
        of a signature, or the network's calls change its variables.
    """
    structure = _input_structure(network, input_signature)
    exported = ExportedPosterior(network, weights, format, prune)
    names = _input_names(structure, exported.has_scales)
    specs = {
        name: tf.TensorSpec(spec.shape, spec.dtype, name=name)
        for name, spec in zip(names, keras.tree.flatten(structure), strict=True)
    }
    served = _Served(network, likelihood, exported, structure, names)
    signatures = {"serve": _traced(served.serve, specs)}
    signatures["serving_default"] = signatures["serve"]
    if exported.has_scales:
        signatures["serve_mc"] = _traced(served.serve_mc, {**specs, **_SCALARS})
        signatures["load_draws"] = _traced(served.load_draws, _SCALARS)
    module = tf.Module()
    module.parts, module.resources = exported.parts, _resources(network)
    # Keras's own exports have this too: `loaded.serve(inputs)`, the inputs as the network takes them.
    module.serve = tf.function(
        lambda inputs: served.outputs(exported.mean(), inputs),
        input_signature=[keras.tree.pack_sequence_as(structure, list(specs.values()))],
        autograph=False,
    )
    write_saved_model(path, module, signatures)
    return exported


@dataclasses.dataclass(frozen=True)
class _Served:
    """The functions of the signatures: a network under an exported posterior, with inputs given by name."""

    network: keras.Model
    likelihood: Any
    exported: ExportedPosterior
    structure: Any
    names: Sequence[str]

    def outputs(self, draw: Draw, inputs: Any) -> Any:
        with self.exported.in_force(draw):
            return self.network(inputs, training=False)

    def serve(self, inputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        return named(self.outputs(self.exported.mean(), self._packed(inputs)))

    def serve_mc(self, inputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        draws = FreshDraws(self.exported, check_samples(inputs["num_samples"]), self._root(inputs["seed"]))
        packed = self._packed(inputs)
        return _average(draws, lambda draw: self.outputs(draw, packed), self.likelihood, self.network)

    def load_draws(self, inputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        return self.exported.keep_draws(inputs["num_samples"], self._root(inputs["seed"]))

    def _root(self, seed: tf.Tensor) -> tf.Tensor:
        return noise.derive(noise.make_seed(seed), Stream.EVALUATION_DRAWS)

    def _packed(self, inputs: Mapping[str, tf.Tensor]) -> Any:
        return keras.tree.pack_sequence_as(self.structure, [inputs[name] for name in self.names])


def _traced(function: Callable, specs: Mapping[str, tf.TensorSpec]) -> Callable:
    """Traces a function of a dictionary as a signature of its keys, which need not be names of arguments."""
    return tf.function(function, input_signature=[dict(specs)], autograph=False).get_concrete_function()


def _resources(network: keras.Model) -> list[Any]:
    """The tables of lookup layers, and variables that layers made without Keras, which a graph may use."""
    own = {id(variable.value) for variable in network.variables}
    kinds = (tf.saved_model.experimental.TrackableResource, tf.Variable)
    return [
        trackable
        for trackable in tf.train.TrackableView(network).descendants()
        if isinstance(trackable, kinds) and id(trackable) not in own
    ]


def _input_structure(network: keras.Model, input_signature: Any) -> Any:
    """Returns specs in the structure in which the network takes its inputs."""
    if isinstance(input_signature, list | tuple) and len(input_signature) == 1:
        return input_signature[0]  # The form that `keras.Model.export` takes.
    if isinstance(input_signature, Mapping) and list(input_signature) == ["inputs"]:
        return input_signature["inputs"]
    if input_signature is not None:
        return input_signature
    tensors = getattr(network, "inputs", None)
    if not tensors:
        raise ValueError(
            "The network does not say what its inputs are: give input_signature=tf.TensorSpec(...), or a "
            f"structure of them. Received: network={network.name!r}, input_signature=None"
        )
    structure = tensors[0] if isinstance(network, keras.Sequential) else network.input
    return keras.tree.map_structure(
        lambda tensor: tf.TensorSpec(tensor.shape, tensor.dtype, name=tensor.name), structure
    )


def _input_names(structure: Any, has_scales: bool) -> list[str]:
    """The arguments of a signature: keys of a dictionary, names of a list's inputs, "inputs" for one."""
    if not keras.tree.is_nested(structure):
        return ["inputs"]
    found = []
    for path, spec in keras.tree.flatten_with_path(structure):
        has_keys = any(isinstance(part, str) for part in path)
        name = _joined(path) if has_keys or not spec.name else spec.name
        found.append(re.sub(r"\W", "_", name))  # TensorFlow does the same with other characters.
    taken = {"self", *(_SCALARS if has_scales else ())}
    refused = {name for name in found if not name.isidentifier() or keyword.iskeyword(name) or name in taken}
    if refused or len(set(found)) < len(found):
        raise ValueError(
            "Each input of an exported network needs a name of its own that a Python argument can have and "
            f"that is none of {sorted(taken)}; weights='mean' exports no serve_mc, which takes the last two. "
            f"Received: inputs={found}"
        )
    return found


def _joined(path: tuple) -> str:
    return "_".join(str(part) for part in path)


def named(outputs: Any) -> dict[str, tf.Tensor]:
    """Names outputs: "outputs" for one, "outputs_0" and so on for a list, the keys of a dictionary."""
    found = {}
    for path, output in keras.tree.flatten_with_path(outputs):
        is_dictionary = path and isinstance(path[0], str)
        found[_joined(path if is_dictionary else ("outputs", *path))] = output
    return found


class _OfOutput:
    """The name of an output, and what its average over draws is called."""

    def __init__(self, name: str, likelihood: Likelihood | None, is_only: bool):
        self._name, self._prefix = name, "" if is_only else f"{name}_"
        self.average: Any = Moments()
        if isinstance(likelihood, CategoricalLikelihood | BernoulliLikelihood):
            self.average = Probabilities(likelihood)
        elif likelihood is not None and likelihood.has_moments:
            self.average = Variances(likelihood)

    def finish(self, sums: Any, count: tf.Tensor) -> dict[str, tf.Tensor]:
        if isinstance(self.average, Moments):
            mean, squares = self.average.finish(sums)
            variance = tf.math.divide_no_nan(squares, tf.cast(count - 1, tf.float32))
            return {self._name: mean, f"{self._name}_variance": variance}
        average, parts = self.average.finish(sums, count)
        if isinstance(self.average, Variances):
            found = {"": average, "_variance": parts.total, "_epistemic_variance": parts.epistemic}
            return {self._name + name: value for name, value in found.items()}
        found = {"probabilities": average, "entropy": parts.total, "mutual_information": parts.epistemic}
        return {self._prefix + name: value for name, value in found.items()}


def _average(
    draws: FreshDraws, make: Callable[[Draw], Any], likelihood: Any, network: keras.Model
) -> dict[str, tf.Tensor]:
    """Averages every output over draws: to probabilities of classes, else to moments of the target."""
    kinds: list[_OfOutput] = []

    def add(sums: list | None, values: list) -> list:
        if not kinds:
            names = getattr(network, "output_names", None)
            found = outputs_of.spread("likelihood", likelihood, structure[0], names, shared=True)
            pairs = zip(named(structure[0]), found, strict=True)
            kinds.extend(_OfOutput(name, one, len(found) == 1) for name, one in pairs)
        before = sums or [None] * len(kinds)
        return [kind.average.add(*pair) for kind, *pair in zip(kinds, before, values, strict=True)]

    structure: list[Any] = []

    def run(draw: Draw, state: Any) -> tuple[list[tf.Tensor], Any]:
        outputs = make(draw)
        structure.append(outputs)
        return list(named(outputs).values()), state

    sums, _ = draws.fold(run, (), add)
    finished = [kind.finish(one, draws.num_samples) for kind, one in zip(kinds, sums, strict=True)]
    found = [item for one in finished for item in one.items()]
    if len(dict(found)) < len(found):
        raise ValueError(f"Outputs need names of their own. Received: {[name for name, _ in found]}")
    return dict(found)
