"""Networks of several outputs: losses and metrics are sums, and Keras's own, of what each output gives."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfp_bayesrnn import BayesianModel, NormalLikelihood, PointMass, VariationalDense, VariationalLSTM
from tfp_bayesrnn.model.evaluation import StreamEvaluator

ROWS, CLASSES = 6, 4
GENERATOR = np.random.default_rng(0)
X = GENERATOR.normal(size=(ROWS, 3)).astype(np.float32)
Y = {
    "a": GENERATOR.normal(size=(ROWS, 1)).astype(np.float32),
    "b": GENERATOR.normal(size=(ROWS, 2)).astype(np.float32),
    "k": GENERATOR.integers(0, CLASSES, ROWS).astype(np.int32),
}
W = {name: GENERATOR.uniform(0.5, 2.0, ROWS).astype(np.float32) for name in Y}
SIZES = {"a": 1, "b": 2, "k": CLASSES}
# Of this scale the density is half a mean squared error from Keras's, and a constant.
NORMAL, CATEGORICAL = NormalLikelihood(0.5**0.5), "categorical"
LIKELIHOODS = {"a": NORMAL, "b": NORMAL, "k": CATEGORICAL}
CROSS_ENTROPY = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
LOSSES = {"a": "mse", "b": "mse", "k": CROSS_ENTROPY}
METRICS = {"a": ["mae"], "b": ["mse", "mae"], "k": ["accuracy"]}


def as_list(parts):
    return [parts["a"], parts["b"], parts["k"]]


def as_tuple(parts):
    return parts["a"], parts["b"], parts["k"]


def as_dictionary(parts):
    return {"z": parts["a"], "y": parts["b"], "x": parts["k"]}


def as_nested(parts):
    return {"u": [parts["a"], parts["b"]], "v": parts["k"]}


def as_equal_shapes(parts):
    return [parts["b"], parts["b"]]


STRUCTURES = [as_list, as_tuple, as_dictionary, as_nested, as_equal_shapes]


class Subclassed(keras.Model):
    def __init__(self, structure):
        super().__init__()
        self.hidden = VariationalDense(5, activation="tanh", posterior=PointMass())
        self.heads = [VariationalDense(size, posterior=PointMass()) for size in SIZES.values()]
        self.structure = structure

    def build(self, shape):
        self.hidden.build(shape)
        for head in self.heads:
            head.build((*shape[:-1], 5))

    def call(self, inputs):
        hidden = self.hidden(inputs)
        return self.structure({name: head(hidden) for name, head in zip(SIZES, self.heads, strict=True)})


def functional(structure):
    inputs = keras.Input((3,))
    hidden = VariationalDense(5, activation="tanh", posterior=PointMass())(inputs)
    heads = {
        name: VariationalDense(size, posterior=PointMass(), name=name)(hidden) for name, size in SIZES.items()
    }
    if structure is as_equal_shapes:
        other = VariationalDense(2, posterior=PointMass(), name="c")(hidden)
        return keras.Model(inputs, [heads["b"], other])
    return keras.Model(inputs, structure(heads))


def compiled(network, likelihood, learning_rate=0.0, **arguments):
    keras.utils.set_random_seed(1)
    model = BayesianModel(network, likelihood=likelihood)
    model.compile(keras.optimizers.SGD(learning_rate), **{"run_eagerly": True, **arguments})
    return model


def logs_of(model, y, weights=None):
    training = model.train_on_batch(X, y, sample_weight=weights, return_dict=True)
    model.reset_metrics()
    return training, model.test_on_batch(X, y, sample_weight=weights, return_dict=True)


def nats(outputs, y, likelihood, weights):
    """The summed nats of one output, and its number of predictions."""
    outputs = outputs.numpy().astype(np.float64)
    if likelihood == CATEGORICAL:
        each = keras.losses.sparse_categorical_crossentropy(y, outputs, from_logits=True).numpy()
    else:
        each = (outputs - y) ** 2 + 0.5 * np.log(np.pi)
    weights = np.broadcast_to(weights.reshape(-1, *[1] * (each.ndim - 1)), each.shape)
    return (each * weights).sum(), weights.sum()


@pytest.mark.slow(every=3)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("structure", STRUCTURES)
def test_the_losses_of_the_outputs_are_summed(structure, weighted):
    keras.utils.set_random_seed(1)
    network = functional(structure)
    y, likelihood, weights = (structure(parts) for parts in (Y, LIKELIHOODS, W))
    metrics = structure(METRICS)
    logs = logs_of(
        compiled(network, likelihood, metrics=metrics, weighted_metrics=metrics),
        y,
        weights if weighted else None,
    )
    ones = structure({name: np.ones(ROWS) for name in Y})
    flat = [keras.tree.flatten(each) for each in (network(X), y, likelihood, weights if weighted else ones)]
    totals, predictions = np.sum([nats(*output) for output in zip(*flat, strict=True)], axis=0)
    network.compile(loss="mse", metrics=metrics, weighted_metrics=metrics, run_eagerly=True)
    if structure is not as_equal_shapes:
        network.compile(loss=structure(LOSSES), metrics=metrics, weighted_metrics=metrics, run_eagerly=True)
    expected = network.test_on_batch(X, y, sample_weight=weights if weighted else None, return_dict=True)
    names = {name for name in expected if not name.endswith("loss")}
    assert len(names) == 8  # Of four metrics, weighted and not.
    for found in logs:
        np.testing.assert_allclose(found["loss"], totals / ROWS, rtol=1e-5)
        np.testing.assert_allclose(found["nll"], totals / predictions, rtol=1e-5)
        for name in names:
            np.testing.assert_allclose(found[name], expected[name], rtol=1e-5, err_msg=name)


@pytest.mark.parametrize("structure", [as_list, as_dictionary, as_nested])
def test_a_subclassed_network(structure):
    keras.utils.set_random_seed(1)
    network = Subclassed(structure)
    y, likelihood = structure(Y), structure(LIKELIHOODS)
    model = compiled(network, likelihood, metrics=structure(METRICS))
    found = logs_of(model, y)
    flat = [keras.tree.flatten(each) for each in (network(X), y, likelihood)]
    totals, predictions = np.sum([nats(*one, np.ones(ROWS)) for one in zip(*flat, strict=True)], axis=0)
    for logs in found:
        np.testing.assert_allclose(logs["loss"], totals / ROWS, rtol=1e-5)
        np.testing.assert_allclose(logs["nll"], totals / predictions, rtol=1e-5)


def test_a_list_may_be_given_by_the_names_of_its_outputs():
    network = functional(as_list)
    expected = logs_of(compiled(network, as_list(LIKELIHOODS), metrics=as_list(METRICS)), as_list(Y))
    found = logs_of(compiled(network, LIKELIHOODS, metrics=METRICS), Y)
    for one, other in zip(found, expected, strict=True):
        assert one == pytest.approx(other, rel=1e-6)


def test_one_likelihood_and_one_weight_are_those_of_all_outputs():
    network = functional(as_equal_shapes)
    y, weights = as_equal_shapes(Y), W["a"]
    expected = logs_of(compiled(network, [NORMAL, NORMAL]), y, [weights, weights])
    found = logs_of(compiled(network, NORMAL), y, weights)
    for one, other in zip(found, expected, strict=True):
        assert one == pytest.approx(other, rel=1e-6)


def test_an_output_without_a_likelihood_needs_no_targets():
    network = functional(as_dictionary)
    alone = {"z": NORMAL, "y": None, "x": None}
    (logs, _) = logs_of(compiled(network, alone, metrics={"z": ["mae"]}), {"z": Y["a"]})
    total, _ = nats(network(X)["z"], Y["a"], NORMAL, np.ones(ROWS))
    np.testing.assert_allclose(logs["loss"], total / ROWS, rtol=1e-5)
    (again, _) = logs_of(compiled(network, alone), as_dictionary(Y))
    assert again["loss"] == logs["loss"]


def test_states_that_a_recurrent_layer_returns_need_no_targets():
    inputs = keras.Input((3, 2))
    layer = VariationalLSTM(4, return_sequences=True, return_state=True, posterior=PointMass())
    outputs, *states = layer(inputs)
    x = np.random.default_rng(1).normal(size=(ROWS, 3, 2)).astype(np.float32)
    y = np.random.default_rng(2).integers(0, 4, (ROWS, 3))
    expected = compiled(keras.Model(inputs, outputs), "categorical", metrics=["accuracy"])
    expected = list(expected.test_on_batch(x, y, return_dict=True).values())
    network = keras.Model(inputs, [outputs, *states])
    for targets in (y, [y]):
        model = compiled(network, ["categorical", None, None], metrics=[["accuracy"], None, None])
        found = model.test_on_batch(x, targets, return_dict=True)
        np.testing.assert_allclose(sorted(found.values()), sorted(expected), rtol=1e-6)


def test_a_step_is_that_of_keras_s_summed_losses():
    """With losses of Keras that are sums over rows divided by their number, as ours are."""
    keras.utils.set_random_seed(1)
    network = functional(as_dictionary)
    copy = keras.models.clone_model(network)
    copy.set_weights(network.get_weights())
    summed = {
        "z": lambda t, o: keras.ops.sum(keras.ops.square(t - o), -1),
        "y": lambda t, o: keras.ops.sum(keras.ops.square(t - o), -1),
        "x": CROSS_ENTROPY,
    }
    copy.compile(keras.optimizers.SGD(0.1), loss=summed, run_eagerly=True)
    copy.train_on_batch(X, as_dictionary(Y))
    compiled(network, as_dictionary(LIKELIHOODS), 0.1).train_on_batch(X, as_dictionary(Y))
    for one, other in zip(network.weights, copy.weights, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6, err_msg=one.path)


@pytest.mark.slow
def test_graphs_fit_and_evaluators(tmp_path):
    """Compiled by XLA in a last minibatch of fewer rows, over a data set, and after saving."""
    keras.utils.set_random_seed(1)
    network = functional(as_nested)
    y, likelihood = as_nested(Y), as_nested(LIKELIHOODS)
    model = compiled(network, likelihood, metrics=as_nested(METRICS), run_eagerly=False, jit_compile=True)
    expected = logs_of(compiled(network, likelihood, metrics=as_nested(METRICS)), y)[0]
    y = {"u": (Y["a"], Y["b"]), "v": Y["k"]}  # A data set takes no lists.
    dataset = tf.data.Dataset.from_tensor_slices((X, y)).batch(4)
    history = model.fit(dataset, verbose=0).history
    for name, value in expected.items():
        if name not in ("gradient_norm",):
            assert history[name] == [pytest.approx(value, rel=1e-5)], name
    score = StreamEvaluator(model).mean(dataset)
    assert score.nll == pytest.approx(expected["nll"], rel=1e-5) and score.predictions == 4 * ROWS
    model.save(tmp_path / "m.keras")
    again = keras.models.load_model(tmp_path / "m.keras")
    predicted = again.predict(X, verbose=0)
    keras.tree.map_structure(np.testing.assert_array_equal, predicted, model.predict(X, verbose=0))
    assert again.get_config()["likelihood"] == model.get_config()["likelihood"]


@pytest.mark.slow
@pytest.mark.parametrize("batch", [6, 5])
def test_two_replicas_are_as_one(mirrored, batch):
    """Each output's sums are over all rows: 3 by 3 of them; 3 by 2, and one in a last minibatch."""

    def trained(strategy):
        with strategy.scope():
            keras.utils.set_random_seed(1)
            network = functional(as_nested)
            options = {"metrics": as_nested(METRICS), "run_eagerly": False, "jit_compile": False}
            model = compiled(network, as_nested(LIKELIHOODS), 0.1, **options)
        y, weights = ({"u": (of["a"], of["b"]), "v": of["k"]} for of in (Y, W))
        dataset = tf.data.Dataset.from_tensor_slices((X, y, weights)).batch(batch)
        history = model.fit(dataset, epochs=2, verbose=0).history
        return network.get_weights(), history, model.evaluate(dataset, verbose=0, return_dict=True)

    one, two = trained(tf.distribute.get_strategy()), trained(mirrored(2))
    for expected, found in zip(one[0], two[0], strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    for expected, found in zip(one[1:], two[1:], strict=True):
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            np.testing.assert_allclose(found[name], value, rtol=1e-4, err_msg=name)


REFUSED = {
    "one tensor of targets": (as_list, NORMAL, Y["b"]),
    "targets in another structure": (as_dictionary, as_dictionary(LIKELIHOODS), as_list(Y)),
    "targets of too few": (as_dictionary, as_dictionary(LIKELIHOODS), {"z": Y["a"], "y": Y["b"]}),
    "targets of an unknown output": (as_dictionary, as_dictionary(LIKELIHOODS), {**as_dictionary(Y), "w": X}),
    "targets of too many": (as_list, as_list(LIKELIHOODS), [*as_list(Y), Y["a"]]),
    "likelihoods of too few": (as_list, [NORMAL, NORMAL], as_list(Y)),
    "likelihoods by other names": (as_dictionary, LIKELIHOODS | {"w": NORMAL}, as_dictionary(Y)),
}


@pytest.mark.slow(every=3)
@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED)
def test_structures_that_differ_are_refused(case):
    structure, likelihood, y = case
    with pytest.raises(ValueError, match=r"must have the structure of the network's outputs.*Received: "):
        compiled(functional(structure), likelihood).train_on_batch(X, y)


@pytest.mark.parametrize("likelihood", [None, [], {}, [None, None], {"a": "gaussian"}, 3.0])
def test_what_is_no_likelihood(likelihood):
    with pytest.raises(ValueError, match="Received: likelihood="):
        BayesianModel(functional(as_list), likelihood=likelihood)


def test_the_perplexity_is_one_of_classes_alone():
    inputs = keras.Input((3,))
    network = keras.Model(inputs, [VariationalDense(CLASSES, posterior=PointMass())(inputs) for _ in "ab"])
    (logs, _) = logs_of(compiled(network, "categorical"), [Y["k"], Y["k"][::-1]])
    assert logs["perplexity"] == pytest.approx(np.exp(logs["nll"]), rel=1e-5)
    assert "perplexity" not in logs_of(compiled(functional(as_list), as_list(LIKELIHOODS)), as_list(Y))[0]
