"""`tfp_bayesrnn.export.network`: inputs and outputs of every structure, tables, and what has a state."""

import keras
import numpy as np
import pytest
import scipy.special
import tensorflow as tf

from tfp_bayesrnn import (
    BayesianModel,
    NormalLikelihood,
    NormalPrior,
    VariationalDense,
    VariationalEmbedding,
    noise,
)
from tfp_bayesrnn.posterior import ambient

PRIOR = NormalPrior(1.0)
ONE, TWO = tf.constant([[1.0, 2.0], [3.0, -1.0]]), tf.constant([[0.5, 1.0, 2.0], [-1.0, 0.0, 1.0]])
SAMPLES, SEED = 3, 7


def dense(units, **arguments):
    return VariationalDense(units, prior=PRIOR, **arguments)


def of_two(structure, *names):
    """A network of two inputs, in a structure made of them."""
    one, two = (
        keras.Input((size,), name=name) for size, name in zip((2, 3), names or (None, None), strict=True)
    )
    return keras.Model(structure(one, two), dense(2)(keras.layers.Concatenate()([one, two])))


def exported(network, directory, likelihood=None, **arguments):
    """The SavedModel of a network; and the network's outputs under the draws that `serve_mc` makes."""
    model = BayesianModel(network, 6, likelihood or NormalLikelihood(1.0))
    model.build(network.input_shape)
    model.export(directory / "m", **arguments)
    return tf.saved_model.load(str(directory / "m")), model


def draws(model, inputs):
    root, outputs = noise.derive(noise.make_seed(SEED), -1), []
    for sample in range(SAMPLES):
        with ambient.under(model.posterior.sample(noise.derive(root, sample))):
            outputs.append(model.network(inputs))
    return keras.tree.map_structure(lambda *values: np.stack(values), *outputs)


def sampled(loaded, **inputs):
    return loaded.signatures["serve_mc"](**inputs, num_samples=tf.constant(SAMPLES), seed=tf.constant(SEED))


def test_loaded_draws_give_the_same_answers(tmp_path):
    loaded, model = exported(keras.Sequential([keras.Input((2,)), dense(2)]), tmp_path)
    fresh = sampled(loaded, inputs=ONE)
    np.testing.assert_allclose(fresh["outputs"], draws(model, ONE).mean(axis=0), rtol=1e-5, atol=1e-6)
    loaded.signatures["load_draws"](num_samples=tf.constant(SAMPLES), seed=tf.constant(SEED))
    kept = sampled(loaded, inputs=ONE)
    assert all(np.array_equal(kept[name], fresh[name]) for name in fresh)


def dictionary(one, two):
    return {"a": one, "b": two}


def both(one, two):
    return [one, two]


def nested(one, two):
    return {"u": [one], "v": {"w": two}}


INPUTS = {
    "a dictionary without names": (dictionary, (), ("a", "b")),
    "a dictionary with other names": (dictionary, ("b", "a"), ("a", "b")),
    "a dictionary": (dictionary, ("a", "b"), ("a", "b")),
    "a list": (both, ("left", "right"), ("left", "right")),
    "names that are no words": (both, ("my input", "x-1"), ("my_input", "x_1")),
    "a nested structure": (nested, (), ("u_0", "v_w")),
}


@pytest.mark.slow(but=["a dictionary without names", "a nested structure"])
@pytest.mark.parametrize("case", INPUTS.values(), ids=INPUTS)
def test_inputs_have_the_names_of_their_structure(tmp_path, case):
    structure, given, names = case
    network, inputs = of_two(structure, *given), structure(ONE, TWO)
    loaded, model = exported(network, tmp_path)
    named = dict(zip(names, (ONE, TWO), strict=True))
    expected = network(inputs)
    np.testing.assert_allclose(loaded.signatures["serve"](**named)["outputs"], expected, rtol=1e-6)
    np.testing.assert_allclose(loaded.serve(inputs), expected, rtol=1e-6)
    found, outputs = sampled(loaded, **named), draws(model, inputs)
    np.testing.assert_allclose(found["outputs"], outputs.mean(0), rtol=1e-5, atol=1e-6)
    if "my input" not in given:  # Which Keras cannot export.
        network.export(tmp_path / "k", verbose=False)
        of_keras = tf.saved_model.load(str(tmp_path / "k"))
        np.testing.assert_allclose(of_keras.serve(inputs), expected, rtol=1e-6)


@pytest.mark.parametrize(
    "names", [("self", "b"), ("seed", "b"), ("a", "num_samples"), ("class", "b"), ("1", "b")]
)
def test_names_that_a_signature_cannot_take(tmp_path, names):
    with pytest.raises(ValueError, match=r"needs a name of its own.*Received: inputs="):
        exported(of_two(both, *names), tmp_path)
    assert not (tmp_path / "m").exists()


def test_names_of_draws_are_free_where_there_are_none(tmp_path):
    loaded, model = exported(of_two(both, "seed", "num_samples"), tmp_path, weights="mean")
    found = loaded.signatures["serve"](seed=ONE, num_samples=TWO)["outputs"]
    np.testing.assert_allclose(found, model.network([ONE, TWO]), rtol=1e-6)


def of_outputs(structure):
    inputs = keras.Input((2,), name="self")  # A single one is always called "inputs".
    return keras.Model(inputs, structure(dense(2, name="first")(inputs), dense(3, name="second")(inputs)))


OUTPUTS = {
    "a dictionary": (dictionary, {"a": "normal", "b": "categorical"}, ("a", "b")),
    "a list by names": (both, {"first": "normal", "second": "categorical"}, ("outputs_0", "outputs_1")),
    "a list": (both, ["normal", "categorical"], ("outputs_0", "outputs_1")),
    "a nested structure": (nested, {"u": "normal", "v": {"w": "categorical"}}, ("u_0", "v_w")),
    "an output without targets": (both, [None, "categorical"], ("outputs_0", "outputs_1")),
}


@pytest.mark.slow(but=["a list"])
@pytest.mark.parametrize("case", OUTPUTS.values(), ids=OUTPUTS)
def test_draws_of_several_outputs_are_averaged_each_by_its_likelihood(tmp_path, case):
    structure, likelihood, (one, two) = case
    likelihood = keras.tree.map_structure(
        lambda name: NormalLikelihood(1.0) if name == "normal" else name, likelihood
    )
    loaded, model = exported(of_outputs(structure), tmp_path, likelihood)
    first, second = keras.tree.flatten(model.network(ONE))
    served = loaded.signatures["serve"](inputs=ONE)
    assert set(served) == {one, two}
    np.testing.assert_allclose(served[one], first, rtol=1e-6)
    np.testing.assert_allclose(served[two], second, rtol=1e-6)
    found = sampled(loaded, inputs=ONE)
    parts = ("probabilities", "entropy", "mutual_information")
    has_noise = {} if first_likelihood(likelihood) is None else {f"{one}_epistemic_variance"}
    assert set(found) == {one, f"{one}_variance", *has_noise, *(f"{two}_{part}" for part in parts)}
    values, logits = keras.tree.flatten(draws(model, ONE))
    each = scipy.special.softmax(logits, axis=-1)
    total = scipy.special.entr(each.mean(0)).sum(-1)
    expected = {
        one: values.mean(0),
        f"{one}_variance": values.var(0) + 1.0 if has_noise else values.var(0, ddof=1),
        f"{two}_probabilities": each.mean(0),
        f"{two}_entropy": total,
        f"{two}_mutual_information": total - scipy.special.entr(each).sum(-1).mean(0),
    }
    if has_noise:
        expected[f"{one}_epistemic_variance"] = values.var(0)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=1e-5, err_msg=name)


def first_likelihood(likelihood):
    return likelihood[0] if isinstance(likelihood, list) else next(iter(likelihood.values()))


@pytest.mark.slow
def test_draws_are_averaged_to_the_figures_of_predictive(tmp_path):
    """The variance of a target holds the noise as well, for every family that has one."""
    likelihood = {"mixed": "negative_binomial", "other": "student_t"}
    inputs = keras.Input((2,))
    outputs = {"mixed": dense(2)(inputs), "other": dense(3)(inputs)}
    loaded, model = exported(keras.Model(inputs, outputs), tmp_path, likelihood)
    found = sampled(loaded, **{"inputs": ONE})
    for name, predictive in model.predictive(ONE.numpy(), SAMPLES, SEED).items():
        np.testing.assert_allclose(found[name], predictive.mean(), rtol=1e-5)
        np.testing.assert_allclose(found[f"{name}_variance"], predictive.stddev() ** 2, rtol=1e-5)
        np.testing.assert_allclose(found[f"{name}_epistemic_variance"], predictive.epistemic(), rtol=1e-4)


def string_lookup():
    return keras.layers.StringLookup(vocabulary=["a", "b"]), "string", [["a", "b", "z"]]


def integer_lookup():
    return keras.layers.IntegerLookup(vocabulary=[5, 7]), "int64", [[5, 7, 1]]


def text_vectorization():
    layer = keras.layers.TextVectorization(output_sequence_length=3)
    layer.adapt(["a b c", "d e"])
    return layer, "string", [["a d q"]]


@pytest.mark.slow(but=["string_lookup"])
@pytest.mark.parametrize("make", [string_lookup, integer_lookup, text_vectorization])
def test_lookup_layers_bring_their_tables(tmp_path, make):
    layer, dtype, inputs = make()
    inputs = tf.constant(inputs, dtype)
    words = keras.Input(inputs.shape[1:], dtype=dtype)
    embedded = keras.layers.Flatten()(VariationalEmbedding(9, 2, prior=PRIOR)(layer(words)))
    loaded, model = exported(keras.Model(words, dense(1)(embedded)), tmp_path)
    np.testing.assert_allclose(loaded.serve(inputs), model.network(inputs), rtol=1e-6)
    outputs = draws(model, inputs)
    np.testing.assert_allclose(
        sampled(loaded, inputs=inputs)["outputs"], outputs.mean(0), rtol=1e-5, atol=1e-6
    )


class OfTensorFlow(keras.layers.Layer):
    """A variable and a table that Keras does not know of."""

    def __init__(self):
        super().__init__()
        self.factor = tf.Variable(2.0)
        initializer = tf.lookup.KeyValueTensorInitializer([1], [3.0])
        self.table = tf.lookup.StaticHashTable(initializer, 0.0)

    def call(self, inputs):
        return inputs * self.factor * self.table.lookup(tf.constant(1))


class Counting(keras.layers.Layer):
    def build(self, shape):
        self.calls = self.add_weight(name="calls", shape=(), initializer="ones", trainable=False)

    def call(self, inputs):
        self.calls.assign_add(1.0)
        return inputs * self.calls


class Noisy(keras.layers.Layer):
    def __init__(self):
        super().__init__()
        self.generator = keras.random.SeedGenerator(0)

    def call(self, inputs):
        return inputs + keras.random.normal(tf.shape(inputs), seed=self.generator)


def test_what_layers_have_of_tensorflow_is_exported(tmp_path):
    inputs = keras.Input((2,))
    loaded, model = exported(keras.Model(inputs, dense(1)(OfTensorFlow()(inputs))), tmp_path)
    np.testing.assert_allclose(loaded.serve(ONE), model.network(ONE), rtol=1e-6)


STATEFUL = {
    "a recurrent layer": lambda value: keras.layers.LSTM(2, stateful=True)(value[:, None]),
    "a layer that counts": lambda value: Counting()(value),
    "a layer of noise": lambda value: Noisy()(value),
}


@pytest.mark.parametrize("make", STATEFUL.values(), ids=STATEFUL)
def test_a_network_with_a_state_is_refused(tmp_path, make):
    inputs = keras.Input(batch_shape=(2, 2))
    network = keras.Model(inputs, dense(1)(make(inputs)))
    with pytest.raises(ValueError, match=r"whose calls change its variables.*Received: changed variables="):
        exported(network, tmp_path)
    assert not (tmp_path / "m").exists()


def test_a_signature_as_keras_takes_it(tmp_path):
    class Network(keras.Model):
        def __init__(self):
            super().__init__()
            self.out = dense(2)

        def call(self, inputs):
            return {"out": self.out(inputs)}

    model = BayesianModel(Network(), 6, NormalLikelihood(1.0))
    expected = model(ONE)["out"]
    with pytest.raises(ValueError, match=r"Received: .*input_signature=None"):
        model.export(tmp_path / "m")
    model.export(tmp_path / "m", input_signature=[tf.TensorSpec([None, 2])])
    loaded = tf.saved_model.load(str(tmp_path / "m"))
    np.testing.assert_allclose(loaded.signatures["serve"](inputs=ONE)["out"], expected, rtol=1e-6)
