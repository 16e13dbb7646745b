"""A draw is an argument of what users call, and no compiled function keeps one or fails to see it."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfp_bayesrnn import BayesianModel, Draw, Dropout, Posterior, VariationalDense, VariationalLSTM, pruning

X = np.random.default_rng(0).normal(size=(20, 3)).astype(np.float32)
Y = np.random.default_rng(1).integers(0, 5, 20)


def classifier(*layers):
    network = keras.Sequential([keras.Input([3]), VariationalDense(4), *layers, VariationalDense(5)])
    model = BayesianModel(network, training_rows=20)
    model.build([None, 3])
    model.compile("sgd")
    return model


@pytest.fixture(scope="module")
def model():
    return classifier()


def predict(model, **kwargs):
    return model.predict(X, batch_size=20, verbose=0, **kwargs)


@pytest.mark.parametrize("has_masks", [True, False])
def test_predict_and_evaluate_run_under_each_draw_they_are_given(has_masks):
    model = classifier(Dropout(0.5))
    mean = predict(model)
    for seed in (1, 2, 1):
        draw = model.posterior.sample(seed)
        draw = draw if has_masks else draw.without_dropout()
        expected = draw.run(model.network, X).numpy()
        np.testing.assert_allclose(predict(model, draw=draw), expected, atol=1e-6)
        nll = keras.losses.sparse_categorical_crossentropy(Y, expected, from_logits=True)
        found = model.evaluate(X, Y, batch_size=20, verbose=0, return_dict=True, draw=draw)
        np.testing.assert_allclose(found["nll"], np.mean(nll), rtol=1e-5)
        np.testing.assert_array_equal(predict(model), mean)
        assert np.max(np.abs(expected - mean)) > 0.05


def test_predict_under_a_draw_of_pruned_weights_and_of_several_replicas(mirrored):
    with mirrored(2).scope():
        model = classifier()
    draw = model.posterior.sample(1)
    np.testing.assert_allclose(predict(model, draw=draw), draw.run(model.network, X), atol=1e-6)
    pruning.prune(model.posterior, pruning.masks(model.posterior, 0.5))
    draw = model.posterior.sample(1)
    np.testing.assert_allclose(predict(model, draw=draw), draw.run(model.network, X), atol=1e-6)


def test_run_is_of_any_function_and_inside_of_compiled_ones(model):
    draw = model.posterior.sample(3)
    expected = draw.run(model.network, X)

    def by_rows(inputs):
        return tf.map_fn(lambda row: model.network(row[tf.newaxis])[0], inputs)

    for function in (
        lambda inputs: draw.run(model.network, inputs, training=False),
        lambda inputs: draw.run(model, inputs),
        lambda inputs: draw.run(by_rows, inputs),
        tf.function(lambda inputs: draw.run(by_rows, inputs)),
    ):
        np.testing.assert_allclose(function(X), expected, atol=1e-6)


FUNCTIONS = {
    "fit": lambda model: model.fit(X, Y, verbose=0),
    "train_on_batch": lambda model: model.train_on_batch(X, Y),
    "evaluate": lambda model: model.evaluate(X, Y, verbose=0),
    "test_on_batch": lambda model: model.test_on_batch(X, Y),
    "predict": predict,
    "predict_on_batch": lambda model: model.predict_on_batch(X),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_that_keras_compiles_are_refused_around(model, name):
    draw = model.posterior.sample(1)
    with pytest.raises(ValueError, match=rf"^{name} runs functions that Keras compiles.*Received: draw of 4"):
        draw.run(FUNCTIONS[name], model)


@pytest.mark.parametrize("was_compiled", [False, True])
def test_a_compiled_function_neither_keeps_a_draw_nor_passes_over_it(was_compiled):
    network = keras.Sequential([keras.Input([3]), VariationalDense(2)])
    compiled = tf.function(lambda inputs: network(inputs))
    draw = Posterior.of(network).sample(1)
    for function in (compiled, lambda inputs: network.predict(inputs, verbose=0)):
        if was_compiled:
            function(X)
        message = "Nothing that was run has read the draw" if was_compiled else "keep the draw"
        with pytest.raises(ValueError, match=message):
            draw.run(function, X)
        np.testing.assert_allclose(function(X), network(X), atol=1e-6)


def test_a_method_of_a_layers_own_may_need_no_weight():
    """As the start of a caption's state, which an image's features are projected to."""

    class Network(keras.Sequential):
        def start(self, inputs):
            return 2.0 * inputs

    network = Network([keras.Input([3]), VariationalDense(2)])
    draw = Posterior.of(network).sample(1)
    np.testing.assert_array_equal(draw.run(network.start, X), 2.0 * X)
    with pytest.raises(ValueError, match="Nothing that was run has read the draw"):
        network.predict(X, verbose=0)
        draw.run(network.predict, X, verbose=0)


def test_other_draws_are_refused(model):
    with pytest.raises(ValueError, match=r"draw must be a Draw.*Received: draw of type int"):
        predict(model, draw=3)
    with pytest.raises(ValueError, match=r"a value for every weight.*Received: draw of 4 weights, without"):
        predict(model, draw=classifier().posterior.sample(1))


class MadeWhenBuilt(keras.Model):
    """A network that has no layers at all before it is built."""

    def build(self, input_shape):
        self.dense = VariationalDense(2)
        self.dense.build(input_shape)

    def call(self, inputs):
        return self.dense(inputs)


UNBUILT = {
    "sequential": lambda: keras.Sequential([VariationalDense(4), VariationalDense(2)]),
    "layer": lambda: VariationalDense(2),
    "layer of a cell": lambda: keras.layers.Bidirectional(VariationalLSTM(2)),
    "a part built": lambda: keras.Sequential([built(VariationalDense(3)), VariationalDense(2)]),
    "made when built": MadeWhenBuilt,
}


def built(layer):
    layer.build([None, 3])
    return layer


@pytest.mark.parametrize("name", UNBUILT)
def test_nothing_is_drawn_before_it_is_built(name):
    """A draw of no weights would run the mean."""
    network = UNBUILT[name]()
    for draw in (lambda: Posterior.of(network).sample(1), lambda: Posterior.of(network).mean()):
        with pytest.raises(ValueError, match=r"before it is built.*Received: layer='.*', not built"):
            draw()
    inputs = X[:, tf.newaxis] if name == "layer of a cell" else X
    network(inputs)
    draws = [Posterior.of(network).sample(seed).run(network, inputs).numpy() for seed in (1, 2)]
    assert np.max(np.abs(draws[0] - draws[1])) > 1e-3


def test_a_built_network_may_have_a_layer_that_nothing_has_used():
    network = keras.Sequential([keras.Input([3]), VariationalDense(2)])
    network.spare = VariationalDense(7)
    assert len(Posterior.of(network).sample(1)) == 2


def test_an_unbuilt_model_predicts_and_evaluates_the_mean(eagerly):
    for method in ("predict", "evaluate", "predict_on_batch", "test_on_batch"):
        model = BayesianModel(keras.Sequential([VariationalDense(5)]), training_rows=20)
        model.compile("sgd", run_eagerly=True)
        found = getattr(model, method)(*((X,) if "predict" in method else (X, Y)))
        if "predict" in method:
            np.testing.assert_allclose(found, model(X), atol=1e-6)


def test_a_draw_that_lacks_weights_of_a_layer_is_refused():
    """A part of the network's posterior, or that of another network, would run the rest under its mean."""
    network = keras.Sequential([keras.Input([3]), VariationalDense(4, name="first"), VariationalDense(2)])
    part = Posterior.of(network.layers[-1]).sample(1)
    for draw in (part, classifier().posterior.sample(1)):
        with pytest.raises(ValueError, match=r"every weight of the layers.*Received: layer='first'.*without"):
            draw.run(network, X)
    whole = Draw({**Posterior.of(network).mean(), **part}, seed=part.seed)
    hidden = network.layers[0](X)
    np.testing.assert_allclose(whole.run(network, X), part.run(network.layers[-1], hidden), atol=1e-6)
