"""The mask that layers hand on to the outputs, in losses and metrics: those of Keras."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfp_bayesrnn import (
    BayesianModel,
    NormalLikelihood,
    PointMass,
    VariationalDense,
    VariationalEmbedding,
    VariationalLSTM,
)
from tfp_bayesrnn.model.evaluation import StreamEvaluator

ROWS, STEPS, CLASSES = 4, 5, 6
LENGTHS = np.array([5, 3, 1, 0])
MASK = np.arange(STEPS) < LENGTHS[:, None]
CLOSE = {"rtol": 2e-6}
CROSS_ENTROPY = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def mask_zero():
    return [keras.layers.Embedding(CLASSES, 3, mask_zero=True)]


def masking():
    return [keras.layers.Embedding(CLASSES, 3, embeddings_initializer=embeddings), keras.layers.Masking(0.0)]


def embeddings(shape, dtype=None):
    """Zeros for the id 0, which `Masking` looks for."""
    values = np.random.default_rng(0).normal(size=shape)
    values[0] = 0.0
    return tf.constant(values, dtype or "float32")


def network(first=mask_zero, outputs=CLASSES, functional=False, ours=True):
    keras.utils.set_random_seed(3)
    if ours:
        recurrent, dense = VariationalLSTM, VariationalDense
        common = {"posterior": PointMass()}
    else:
        recurrent, dense, common = keras.layers.LSTM, keras.layers.Dense, {}
    layers = [*first(), recurrent(4, return_sequences=True, **common), dense(outputs, **common)]
    if not functional:
        return keras.Sequential(layers)
    inputs = value = keras.Input((None,), dtype="int32")
    for layer in layers:
        value = layer(value)
    return keras.Model(inputs, value)


def data(seed=0):
    generator = np.random.default_rng(seed)
    x = np.where(MASK, generator.integers(1, CLASSES, (ROWS, STEPS)), 0).astype(np.int32)
    return x, generator.integers(0, CLASSES, (ROWS, STEPS)).astype(np.int32)


def compiled(network, **arguments):
    model = BayesianModel(network, **arguments.pop("model", {}))
    model.compile(keras.optimizers.SGD(0.0), **{"jit_compile": False, "run_eagerly": True, **arguments})
    return model


WEIGHTS = {
    "none": None,
    "of time": np.random.default_rng(1).uniform(0.5, 2.0, (ROWS, STEPS)).astype(np.float32),
    "of time with an axis": np.random.default_rng(1).uniform(0.5, 2.0, (ROWS, STEPS, 1)).astype(np.float32),
}


@pytest.mark.slow(but=["mask_zero-False-none", "masking-True-of time with an axis"])
@pytest.mark.parametrize("weights", WEIGHTS.values(), ids=WEIGHTS)
@pytest.mark.parametrize("functional", [False, True])
@pytest.mark.parametrize("first", [mask_zero, masking])
def test_losses_and_metrics_are_keras_s(first, functional, weights):
    """Its loss is divided by the mask's sum, ours by the rows or by the sum of mask times weights."""
    x, y = data()
    net = network(first, functional=functional)
    weighted = [keras.metrics.SparseCategoricalCrossentropy(from_logits=True, name="weighted")]
    net.compile(loss=CROSS_ENTROPY, metrics=["accuracy"], weighted_metrics=weighted, run_eagerly=True)
    of_keras = weights[..., 0] if weights is not None and weights.ndim == 3 else weights
    expected = net.evaluate(x, y, sample_weight=of_keras, verbose=0, return_dict=True)
    total = expected["loss"] * MASK.sum()
    predictions = MASK.sum() if weights is None else (of_keras * MASK).sum()
    model = compiled(net, metrics=["accuracy"], weighted_metrics=weighted)
    found = {
        "training": model.train_on_batch(x, y, sample_weight=weights, return_dict=True),
        "evaluation": model.evaluate(x, y, sample_weight=weights, verbose=0, return_dict=True),
    }
    for name, logs in found.items():
        np.testing.assert_allclose(logs["loss"], total / ROWS, **CLOSE, err_msg=name)
        np.testing.assert_allclose(logs["nll"], total / predictions, **CLOSE, err_msg=name)
        np.testing.assert_allclose(logs["perplexity"], np.exp(total / predictions), rtol=1e-5, err_msg=name)
        for metric in ("accuracy", "weighted"):
            np.testing.assert_allclose(logs[metric], expected[metric], **CLOSE, err_msg=name)
        if weights is None:
            np.testing.assert_allclose(logs["nll"], expected["loss"], **CLOSE, err_msg=name)
    score = StreamEvaluator(model).mean([(x, y) if weights is None else (x, y, tf.constant(weights))])
    assert score.predictions == MASK.sum()
    np.testing.assert_allclose(score.nll, total / predictions, **CLOSE)


def sequences():
    return VariationalLSTM(4, return_sequences=True, posterior=PointMass())


def classes():
    return VariationalDense(CLASSES, posterior=PointMass())


NETWORKS = {
    "our embedding": lambda: [
        VariationalEmbedding(CLASSES, 3, mask_zero=True, posterior=PointMass()),
        sequences(),
        classes(),
    ],
    "bidirectional": lambda: [*mask_zero(), keras.layers.Bidirectional(sequences()), classes()],
    "two layers": lambda: [
        *mask_zero(),
        sequences(),
        keras.layers.LayerNormalization(),
        sequences(),
        classes(),
    ],
    "of each step": lambda: [*mask_zero(), sequences(), keras.layers.TimeDistributed(classes())],
    "Keras's": lambda: [*masking(), keras.layers.GRU(4, return_sequences=True), keras.layers.Dense(CLASSES)],
    "one for a row": lambda: [*mask_zero(), VariationalLSTM(4, posterior=PointMass()), classes()],
    "mask lost": lambda: [*mask_zero(), sequences(), keras.layers.GlobalMaxPooling1D(), classes()],
}


@pytest.mark.parametrize("weights", ["none", "of rows", "of time"])
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.slow(every=3)
def test_networks_of_every_kind_weigh_as_keras_does(eagerly, name, weights):
    """Its loss is divided by the mask's sum; weights of rows it cannot take beside a mask of steps."""
    x, y = data()
    net = keras.Sequential(NETWORKS[name]())
    has_steps = len(net(x).shape) == 3
    y, mask = (y, MASK) if has_steps else (y[:, 0], np.ones(ROWS, bool))
    given = {"none": None, "of rows": WEIGHTS["of time"][:, 0], "of time": WEIGHTS["of time"]}[weights]
    if not has_steps and weights == "of time":
        return
    full = given if given is None or not has_steps or given.ndim == 2 else np.repeat(given[:, None], STEPS, 1)
    net.compile(loss=CROSS_ENTROPY, metrics=["accuracy"], weighted_metrics=["accuracy"], run_eagerly=True)
    expected = net.test_on_batch(x, y, sample_weight=full, return_dict=True)
    model = compiled(net, metrics=["accuracy"], weighted_metrics=["accuracy"])
    for method in (model.train_on_batch, model.test_on_batch):
        model.reset_metrics()
        logs = method(x, y, sample_weight=given, return_dict=True)
        np.testing.assert_allclose(logs["loss"], expected["loss"] * mask.sum() / ROWS, rtol=1e-5)
        for metric in ("accuracy", "weighted_accuracy"):
            np.testing.assert_allclose(logs[metric], expected[metric], **CLOSE, err_msg=metric)


@pytest.mark.parametrize("weighted", [False, True])
def test_each_of_several_outputs_has_its_own_mask(weighted):
    """A prediction for each step, and one for the whole row, which has no mask."""
    x, y = data()
    inputs = keras.Input((None,), dtype="int32")
    embedded, common = mask_zero()[0](inputs), {"posterior": PointMass()}
    steps = VariationalDense(CLASSES, name="steps", **common)(
        VariationalLSTM(3, return_sequences=True, **common)(embedded)
    )
    rows = VariationalDense(1, name="rows", **common)(VariationalLSTM(3, **common)(embedded))
    net = keras.Model(inputs, {"steps": steps, "rows": rows})
    generator = np.random.default_rng(6)
    y = {"steps": y, "rows": generator.normal(size=(ROWS, 1)).astype(np.float32)}
    weights = {"steps": WEIGHTS["of time"], "rows": np.ones(ROWS, np.float32)} if weighted else None
    metrics = {"steps": ["accuracy"], "rows": ["mae"]}
    losses = {"steps": CROSS_ENTROPY, "rows": "mse"}
    net.compile(loss=losses, weighted_metrics=metrics, run_eagerly=True)
    expected = net.evaluate(x, y, sample_weight=weights, verbose=0, return_dict=True)
    total = expected["steps_loss"] * MASK.sum() + ROWS * (expected["rows_loss"] + 0.5 * np.log(np.pi))
    predictions = (MASK * (weights["steps"] if weighted else 1.0)).sum() + ROWS
    likelihood = {"steps": "categorical", "rows": NormalLikelihood(0.5**0.5)}
    model = compiled(net, model={"likelihood": likelihood}, weighted_metrics=metrics)
    for logs in (
        model.train_on_batch(x, y, sample_weight=weights, return_dict=True),
        model.evaluate(x, y, sample_weight=weights, verbose=0, return_dict=True),
    ):
        np.testing.assert_allclose(logs["loss"], total / ROWS, rtol=1e-5)
        np.testing.assert_allclose(logs["nll"], total / predictions, rtol=1e-5)
        for name in ("steps_accuracy", "rows_mae"):
            np.testing.assert_allclose(logs[name], expected[name], **CLOSE, err_msg=name)


def test_a_weight_of_each_row_is_that_of_its_predictions():
    """Keras's own metrics cannot take weights [B] beside a mask [B, T]."""
    x, y = data()
    weighted = [keras.metrics.SparseCategoricalCrossentropy(from_logits=True, name="weighted")]
    model = compiled(network(), weighted_metrics=weighted)
    rows = np.array([1.0, 0.5, 2.0, 3.0], np.float32)
    full = np.repeat(rows[:, None], STEPS, 1)
    expected = model.evaluate(x, y, sample_weight=full, verbose=0, return_dict=True)
    found = model.evaluate(x, y, sample_weight=rows, verbose=0, return_dict=True)
    assert found == pytest.approx(expected, rel=1e-6)
    assert found["weighted"] == pytest.approx(found["nll"], rel=1e-6)


def test_the_compiled_step_keeps_the_mask_for_its_metrics():
    x, y = data()
    net = network()
    net.compile(loss=CROSS_ENTROPY, metrics=["accuracy"], run_eagerly=True)
    net(x)
    y = np.where(MASK & (np.arange(STEPS) % 2 == 0), np.argmax(net(x), -1), y)
    expected = net.evaluate(x, y, verbose=0, return_dict=True)
    model = compiled(net, metrics=["accuracy"], jit_compile=True, run_eagerly=False)
    logs = model.fit(x, y, batch_size=ROWS, shuffle=False, verbose=0).history
    assert logs["accuracy"] == [pytest.approx(expected["accuracy"])]
    assert logs["nll"] == [pytest.approx(expected["loss"], rel=1e-5)]


def test_a_step_is_keras_s(eagerly):
    """With the learning rate that makes up for the other denominator."""
    x, y = data()
    ours, keras_s = network(), network(ours=False)
    for net in (ours, keras_s):
        net(x)
    keras_s.set_weights([variable.numpy() for variable in ours.trainable_variables])
    keras_s.compile(keras.optimizers.SGD(0.5), loss=CROSS_ENTROPY, run_eagerly=True)
    keras_s.train_on_batch(x, y)
    model = BayesianModel(ours)
    model.compile(keras.optimizers.SGD(0.5 * ROWS / MASK.sum()), run_eagerly=True)
    model.train_on_batch(x, y)
    for one, other in zip(ours.trainable_variables, keras_s.trainable_variables, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6, err_msg=other.path)


@pytest.mark.parametrize("seed", [0, 1])
def test_targets_that_do_not_count_may_be_missing(eagerly, seed):
    """NaN where nothing was measured: a step is that of any other number there."""
    x, _ = data(seed)
    y = np.random.default_rng(seed).normal(size=(ROWS, STEPS, 1)).astype(np.float32)
    after = []
    for missing in (0.0, np.nan):
        model = compiled(network(outputs=1), model={"likelihood": NormalLikelihood(1.0)})
        model.optimizer.learning_rate = 0.1
        model.train_on_batch(x, np.where(MASK[..., None], y, missing))
        after.append([variable.numpy() for variable in model.trainable_variables])
    for one, other in zip(*after, strict=True):
        assert np.all(np.isfinite(other))
        np.testing.assert_array_equal(one, other)


def windows(x, y, unroll=3):
    for start in range(0, x.shape[1], unroll):
        window = slice(start, start + unroll)
        yield {"inputs": x[:, window], "is_first": np.full(len(x), start == 0)}, y[:, window]


def test_a_carried_state_keeps_the_mask(eagerly):
    """Of rows that go on from window to window, in `fit`'s step, in `evaluate` and in an evaluator."""
    generator = np.random.default_rng(4)
    lengths = np.array([6, 4, 2])
    mask = np.arange(6) < lengths[:, None]
    x = np.where(mask, generator.integers(1, CLASSES, mask.shape), 0).astype(np.int32)
    y = generator.integers(0, CLASSES, mask.shape).astype(np.int32)
    net = network()
    nats = keras.losses.sparse_categorical_crossentropy(y, net(x), from_logits=True).numpy()
    expected = (nats * mask).sum() / mask.sum()
    model = compiled(net)
    for method in (model.train_on_batch, model.test_on_batch):
        losses = [method(*window, return_dict=True)["loss"] for window in windows(x, y)]
        np.testing.assert_allclose(sum(losses) * len(x) / mask.sum(), expected, rtol=1e-5)
    score = StreamEvaluator(model).mean(windows(x, y))
    np.testing.assert_allclose(score.nll, expected, rtol=1e-5)
    assert score.predictions == mask.sum()


def test_scores_of_a_stream_are_means_by_weight():
    """Of one draw and of the average of several, which averages probabilities that no weight has touched."""
    x, y = data()
    weights = np.random.default_rng(5).uniform(0.0, 2.0, (ROWS, STEPS)).astype(np.float32)
    model = compiled(network())
    model.build((None, None))
    nll = model.evaluate(x, y, sample_weight=weights, verbose=0, return_dict=True)["nll"]
    evaluator, dataset = StreamEvaluator(model), [(x, y, tf.constant(weights))]
    np.testing.assert_allclose(evaluator.mean(dataset).nll, nll, **CLOSE)
    np.testing.assert_allclose(evaluator.average(dataset, 2).nll, nll, **CLOSE)
