"""Every public layer, family and likelihood is saved, compiled, shared out over replicas and exported.

They are found, not listed: a new layer or family is among them as soon as its package exports it. All of a
kind are in one network, since most of a test's time goes into compiling its step.
`PYTHONPATH=.:tests/support python tests/conformance_test.py` records the golden values anew, which is right
only where numbers are meant to change, or for what is new.
"""

import inspect
import json
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from golden import norm_and_projection
from tensorflow_probability import distributions as tfd

import tfp_bayesrnn
from tfp_bayesrnn import (
    BayesianModel,
    DistributionLikelihood,
    JointLikelihood,
    Likelihood,
    NormalLikelihood,
    NormalPrior,
    layers,
    replicas,
)
from tfp_bayesrnn.distributions import IndependentNormal, VariationalFamily
from tfp_bayesrnn.layers.base import VariationalLayer
from tfp_bayesrnn.objective import likelihoods

FILE = Path(__file__).with_name("conformance_values.json")
ROWS, STEPS, WORDS, UNITS = 6, 4, 7, 3
BASES = {"VariationalRNN", "VariationalRNNCell", VariationalFamily.__name__, IndependentNormal.__name__}


@keras.saving.register_keras_serializable("conformance")
def distance(targets, outputs):
    """Of vectors [..., 3]: -log of a density that falls with their distance, up to a constant."""
    return tf.sqrt(1.0 + tf.reduce_sum((targets - outputs) ** 2, -1))


@keras.saving.register_keras_serializable("conformance")
def laplace(outputs):
    return tfd.Laplace(outputs, 0.5)


LIKELIHOODS = {
    "categorical": "categorical",
    "bernoulli": "bernoulli",
    "normal": NormalLikelihood(0.5),
    "joint": JointLikelihood(distance),
    "normal_with_its_scale": "normal",
    "student_t": "student_t",
    "poisson": "poisson",
    "negative_binomial": "negative_binomial",
    "quantile": "quantile",
    "distribution": DistributionLikelihood(laplace),
}


def classes(module, *kinds):
    """The public classes of a module that are of some kinds, by name."""
    found = {name: getattr(module, name) for name in module.__all__ if name not in BASES}
    return {
        name: value for name, value in found.items() if inspect.isclass(value) and issubclass(value, kinds)
    }


def layer(kind):
    """A layer [B, T, units] of a class; of a cell, the layer that Keras makes of it."""
    if issubclass(kind, layers.VariationalRNNCell):
        return keras.layers.RNN(kind(UNITS, name=kind.__name__), return_sequences=True)
    if issubclass(kind, layers.VariationalEmbedding):
        return kind(WORDS, UNITS, name=kind.__name__)
    is_recurrent = issubclass(kind, layers.VariationalRNN)
    return kind(UNITS, name=kind.__name__, **({"return_sequences": True} if is_recurrent else {}))


def all_layers():
    """Words go through every layer, the embedding first; the last one gives logits of three classes."""
    found = classes(layers, VariationalLayer, layers.VariationalRNN)
    assert len(found) >= 8
    first = found.pop("VariationalEmbedding")
    return [layer(kind) for kind in (first, *found.values())], "categorical"


def all_families():
    """A matrix, a recurrence and a bias of each family."""
    found = classes(tfp_bayesrnn, VariationalFamily)
    assert len(found) >= 3
    return [
        layers.VariationalEmbedding(WORDS, UNITS, name="words"),
        *(
            layers.VariationalLSTM(UNITS, posterior=family(), return_sequences=True, name=name)
            for name, family in found.items()
        ),
    ], "categorical"


def all_likelihoods():
    """An output for each likelihood."""
    found = {type(likelihoods.get(each)) for each in LIKELIHOODS.values()}
    assert found == set(classes(tfp_bayesrnn, Likelihood).values()) - {Likelihood}
    return [layers.VariationalEmbedding(WORDS, UNITS, name="words")], LIKELIHOODS


KINDS = {"layers": all_layers, "families": all_families, "likelihoods": all_likelihoods}


def targets_of(likelihood, generator):
    values = generator.normal(size=(ROWS, STEPS, UNITS)).astype(np.float32)
    if likelihood == "categorical":
        return values.argmax(-1).astype(np.int32)
    if likelihood == "bernoulli":
        return (values > 0).astype(np.float32)
    return np.floor(np.abs(values) * 2) if likelihoods.get(likelihood).is_discrete else values


def outputs_for(likelihood, hidden, name, prior):
    """Outputs for targets [B, T, units]."""
    count = likelihoods.get(likelihood).parameters
    if count is None:
        return layers.VariationalDense(UNITS, prior=prior, name=name)(hidden)
    raw = layers.VariationalDense(UNITS * count, prior=prior, name=name)(hidden)
    return keras.layers.Reshape([STEPS, UNITS, count])(raw)


def make(kind, strategy=None, **compiled):
    """A model with everything of a kind in it, and data of `ROWS` rows for it."""
    keras.utils.clear_session()  # Layers get the same names, and with them the same initial values.
    keras.utils.set_random_seed(1)
    generator = np.random.default_rng(0)
    ids = generator.integers(0, WORDS, (ROWS, STEPS)).astype(np.int32)
    with (strategy or tf.distribute.get_strategy()).scope():
        stack, likelihood = KINDS[kind]()
        inputs = hidden = keras.Input([STEPS], dtype="int32", name="ids")
        for each in stack:
            hidden = each(hidden)
        if isinstance(likelihood, dict):
            prior = NormalPrior(1.0)
            hidden = {name: outputs_for(each, hidden, name, prior) for name, each in likelihood.items()}
            targets = {name: targets_of(each, generator) for name, each in likelihood.items()}
        else:
            targets = targets_of(likelihood, generator)
        network = keras.Model(inputs, hidden)
        model = BayesianModel(network, likelihood=likelihood, training_rows=ROWS, kl_warmup_steps=0, seed=3)
        model.build(ids.shape)
        model.posterior.initialize(5)
        model.compile(keras.optimizers.SGD(0.1, momentum=0.9), **compiled)
    return model, ids, targets


def trained_values(model, inputs, targets):
    """The variables after two epochs of one minibatch each, by their paths."""
    model.fit(inputs, targets, batch_size=ROWS, epochs=2, shuffle=False, verbose=0)
    return {variable.path: variable.numpy() for variable in model.trained_variables}


def summary(values):
    return {path: norm_and_projection(value) for path, value in values.items()}


def assert_close(actual, expected, tolerance):
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(actual[name], value, rtol=tolerance, atol=tolerance, err_msg=name)


@pytest.mark.slow(but=["families", "likelihoods"])
@pytest.mark.parametrize("kind", KINDS)
def test_it_trains_saves_and_exports(kind, tmp_path):
    model, inputs, targets = make(kind, run_eagerly=True)
    # Rounding differs between processors.
    assert_close(summary(trained_values(model, inputs, targets)), json.loads(FILE.read_text())[kind], 1e-4)

    outputs = model.predict(inputs, verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    again.run_eagerly = True
    keras.tree.map_structure(np.testing.assert_array_equal, again.predict(inputs, verbose=0), outputs)
    assert again.evaluate(inputs, targets, verbose=0) == model.evaluate(inputs, targets, verbose=0)

    model.export(tmp_path / "export")
    signatures = tf.saved_model.load(tmp_path / "export").signatures
    served = signatures["serve"](inputs=tf.constant(inputs))
    assert_close(served, outputs if isinstance(outputs, dict) else {"outputs": outputs}, 1e-5)
    sampled = signatures["serve_mc"](inputs=tf.constant(inputs), num_samples=2, seed=1)
    assert all(np.isfinite(value).all() for value in sampled.values())


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_xla_and_two_replicas_take_the_same_steps(kind, mirrored, monkeypatch):
    """They add up the same numbers in another order, if both replicas have the same draw."""
    expected = trained_values(*make(kind, run_eagerly=True))
    assert_close(trained_values(*make(kind, jit_compile=True)), expected, 1e-5)
    monkeypatch.setattr(replicas, "index", lambda: 0)
    assert_close(trained_values(*make(kind, mirrored(2), jit_compile=False)), expected, 1e-5)


if __name__ == "__main__":
    recorded = {kind: summary(trained_values(*make(kind, run_eagerly=True))) for kind in KINDS}
    FILE.write_text(json.dumps(recorded, indent=1) + "\n")
