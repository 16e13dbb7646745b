"""The private names of Keras: that they are in one module, and what breaks when Keras changes them."""

import ast
import pathlib
import re

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfp_bayesrnn import VariationalDense, VariationalLSTM, keras_internals

ROOT = pathlib.Path(__file__).parents[2]
X, Y = np.ones([4, 3], np.float32), np.zeros([4, 1], np.float32)


def functional():
    inputs = keras.Input([3])
    return keras.Model(inputs, keras.layers.Dense(1)(keras.layers.Dense(2)(inputs)))


def layers_within():
    inner = keras.layers.Dense(2)
    model = keras.Sequential([keras.layers.TimeDistributed(inner)])
    assert keras_internals.layers_within(model) == [model, model.layers[0], inner]
    assert keras_internals.layers_directly_within(model) == [model.layers[0]]


def takes_training():
    assert keras_internals.takes_training(keras.layers.Dropout(0.5))
    assert not keras_internals.takes_training(keras.layers.Flatten())


def variables_come_and_go():
    layer = keras.layers.Dense(1)
    layer.build([None, 3])
    with pytest.raises(ValueError):
        layer.add_weight([2], name="late")
    with keras_internals.adding_variables(layer):
        late = layer.add_weight([2], name="late")
    assert any(one is late for one in layer.weights)
    keras_internals.forget_variable(layer, late)
    assert not any(one is late for one in layer.weights)


def forward_pass():
    class Asks(keras.layers.Layer):
        def call(self, inputs, training=False):
            context = keras_internals.forward_pass()
            seen.append((context, context.get_value("training")))
            context.set_value("ours", len(seen))
            return inputs

    seen = []
    model = keras.Sequential([Asks(), Asks()])
    for training in (True, False):
        model(X, training=training)
    contexts, trainings = zip(*seen[-4:], strict=True)
    assert contexts[0] is contexts[1] and contexts[1] is not contexts[2] and contexts[2] is contexts[3]
    assert trainings == (True, True, False, False)
    assert keras_internals.forward_pass() is None


def masks():
    masked = keras.layers.Masking()(np.zeros([1, 2, 3], np.float32))
    assert keras_internals.mask_of(masked).numpy().tolist() == [[False, False]]
    tensor = tf.zeros([1, 2])
    assert keras_internals.mask_of(tensor) is None
    keras_internals.set_mask(tensor, tf.constant([True]))
    assert bool(keras_internals.mask_of(tensor))


def symbolic_tensors():
    model = functional()
    assert isinstance(model, keras_internals.Functional)
    assert not isinstance(keras.Sequential([keras.layers.Dense(1)]), keras_internals.Functional)
    assert keras_internals.operation_of(model.output) is model.layers[-1]
    shaped = keras.layers.Lambda(lambda x: x, output_shape=(7,))
    assert keras_internals.output_shape_of(shaped) == (7,)


def models():
    class Shown(keras_internals.Model):
        def __init__(self):
            super().__init__()
            self.dense, self.seen = keras.layers.Dense(1), []

        def call(self, inputs):
            return self.dense(inputs)

        def example_for_build(self, iterator, data_batch):
            self.seen.append((iterator, data_batch))
            return iterator, data_batch

    model = Shown()
    model.compile("sgd", "mse", metrics=["mae"])
    assert model.has_compiled_metrics
    model.build_for((X, Y))
    assert model.built and model.optimizer.built and model.loss_tracker.name == "loss"
    model.fit(X, Y, verbose=0)
    assert len(model.seen) == 1
    assert list(model.get_metrics_result()) == ["loss", "mae"]
    model.forget_compiled_metrics()
    model.compile("sgd", "mse")
    assert not model.has_compiled_metrics


def initial_epoch():
    class Late(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            keras_internals.set_initial_epoch(self.model, 2)

        def on_train_end(self, logs=None):
            keras_internals.set_initial_epoch(self.model, None)

    model = functional()
    model.compile("sgd", "mse")
    history = model.fit(X, Y, epochs=3, verbose=0, callbacks=[Late()])
    assert history.epoch == [2]
    assert model.fit(X, Y, epochs=1, verbose=0).epoch == [0]


def optimizers():
    rate = keras.optimizers.schedules.ExponentialDecay(0.5, 1, 0.5)
    optimizer = keras.optimizers.SGD(rate, gradient_accumulation_steps=2)
    variable = keras.Variable(0.0)
    optimizer.build([variable])
    keras_internals.take_summed_gradients(optimizer)
    for _ in range(2):
        optimizer.apply([tf.constant(1.0)])
    assert int(keras_internals.minibatches_seen(optimizer)) == 2 and int(optimizer.iterations) == 1
    assert keras_internals.learning_rate_given(optimizer) is rate
    assert float(variable) < 0.0
    # Keras sums by this method, of this one argument.
    assert callable(keras.optimizers.SGD._all_reduce_sum_gradients)


def the_hooks_of_recurrent_layers():
    layer = VariationalLSTM(2, dropout=0.5, kl_weight=1e-3)
    calls = []
    for name in ("get_dropout_mask", "get_recurrent_dropout_mask", "reset_dropout_mask"):
        hook = getattr(layer.cell, name)
        setattr(layer.cell, name, lambda *args, name=name, hook=hook: (calls.append(name), hook(*args))[1])
    layer(np.ones([2, 3, 1], np.float32), training=True)
    assert calls == ["get_dropout_mask", "get_recurrent_dropout_mask", "reset_dropout_mask"]


CASES = {
    "Posterior.of, use_jit and conversion find no layers inside others": layers_within,
    "carried state runs a layer without its argument training": takes_training,
    "a built weight cannot be pruned, or not restored": variables_come_and_go,
    "a layer draws once for all calls, or anew within one": forward_pass,
    "padding counts as predictions": masks,
    "conversion cannot copy functional networks and Lambda layers": symbolic_tensors,
    "compile, fit and Loop cannot build or report": models,
    "ExactResume starts from the first epoch": initial_epoch,
    "seeds repeat under accumulation; schedules are frozen; gradients are summed twice": optimizers,
    "recurrent layers draw at every step": the_hooks_of_recurrent_layers,
}


@pytest.mark.parametrize("what_breaks", CASES)
@pytest.mark.usefixtures("eagerly")
def test_keras_still_has_what_is_used_of_it(what_breaks):
    CASES[what_breaks]()


def trees():
    for package in ("tfp_bayesrnn", "zoo"):
        for path in (ROOT / package).rglob("*.py"):
            yield path, ast.parse(path.read_text(encoding="utf-8"))


def defined(tree):
    """Private names that a file defines: functions, and what it assigns to, attributes too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            if isinstance(node.value, ast.Name) and node.value.id == "self":
                yield node.attr


def test_private_names_are_used_in_one_module_alone():
    home = ROOT / "tfp_bayesrnn" / "keras_internals.py"
    ours = {name for path, tree in trees() if path != home for name in defined(tree)}
    of_python = {"_replace", "_asdict", "_fields", "_exit"}
    private = re.compile(r"_[a-z]\w*")
    kept = {
        node.attr
        for node in ast.walk(ast.parse(home.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute) and private.fullmatch(node.attr)
    }
    assert kept and not kept & ours
    for path, tree in trees():
        if path == home:
            continue
        assert not re.search(r"keras\.src|tensorflow\.python", path.read_text(encoding="utf-8")), path
        used = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
        used |= {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)} & kept
        foreign = {name for name in used if private.fullmatch(name)} - ours - of_python
        assert not foreign, path
        # `super()._name` is a private name of Keras, whoever defines a method of that name too.
        assert not re.search(r"super\(\)\.(?!_set_kl_weight)_[a-z]", path.read_text(encoding="utf-8")), path


def test_order_of_weights_is_that_of_their_paths():
    from tfp_bayesrnn import Posterior

    network = keras.Sequential([VariationalDense(2, name=f"layer_{number}") for number in (10, 9, 2)])
    network.build([None, 2])
    paths = [weight.path.split("/")[1:] for weight in Posterior.of(network).weights]
    layers = ("layer_2", "layer_9", "layer_10")
    assert paths == [[layer, name] for layer in layers for name in ("bias", "kernel")]
