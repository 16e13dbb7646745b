"""Padding counts in no metric, in `fit` as in `evaluate`: they are those of the predictions that count."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfp_bayesrnn import BayesianModel, NormalLikelihood, PointMass, VariationalDense, VariationalLSTM

ROWS, STEPS, CLASSES = 6, 5, 4
MASK = np.arange(STEPS) < np.array([5, 4, 3, 2, 1, 0])[:, None]
GENERATOR = np.random.default_rng(0)
IDS = np.where(MASK, GENERATOR.integers(1, CLASSES, MASK.shape), 0).astype(np.int32)
REAL = np.where(MASK[..., None], GENERATOR.normal(size=(*MASK.shape, 2)), 0.0).astype(np.float32)
LABELS = GENERATOR.integers(0, CLASSES, MASK.shape).astype(np.int32)
BITS = GENERATOR.integers(0, 2, (*MASK.shape, 1)).astype(np.float32)
WEIGHTS = GENERATOR.uniform(0.5, 2.0, MASK.shape).astype(np.float32)


@keras.saving.register_keras_serializable("masked_metrics_test")
class Own(keras.metrics.Metric):
    """The share of right classes, by a user who knows weights and not masks."""

    def __init__(self, name="own", **kwargs):
        super().__init__(name=name, **kwargs)
        self.right = self.add_variable((), "zeros", name="right")
        self.count = self.add_variable((), "zeros", name="count")

    def update_state(self, y_true, y_pred, sample_weight=None):
        is_right = tf.cast(tf.argmax(y_pred, -1) == tf.cast(y_true, tf.int64), tf.float32)
        weights = tf.ones_like(is_right) if sample_weight is None else tf.cast(sample_weight, tf.float32)
        self.right.assign_add(tf.reduce_sum(weights * is_right))
        self.count.assign_add(tf.reduce_sum(weights))

    def result(self):
        return self.right / self.count


metrics = keras.metrics
OF_BITS = {
    "auc": lambda: metrics.AUC(from_logits=True),
    "precision": lambda: metrics.Precision(thresholds=0.0),
    "true positives": lambda: metrics.TruePositives(thresholds=0.0),
    "binary iou": lambda: metrics.BinaryIoU(threshold=0.0),
    "binary accuracy": lambda: metrics.BinaryAccuracy(threshold=0.0),
    "root mean square": metrics.RootMeanSquaredError,
    "mean absolute": metrics.MeanAbsoluteError,
}
OF_CLASSES = {
    "accuracy": metrics.SparseCategoricalAccuracy,
    "top": lambda: metrics.SparseTopKCategoricalAccuracy(2),
    "cross-entropy": lambda: metrics.SparseCategoricalCrossentropy(from_logits=True),
    "mean iou": lambda: metrics.MeanIoU(CLASSES, sparse_y_pred=False),
    "own": Own,
}


def network(first, outputs):
    keras.utils.set_random_seed(2)
    common = {"posterior": PointMass()}
    return keras.Sequential(
        [first, VariationalLSTM(3, return_sequences=True, **common), VariationalDense(outputs, **common)]
    )


def of_bits():
    return network(keras.layers.Masking(0.0), 1), "bernoulli", REAL, BITS


def of_classes():
    return network(keras.layers.Embedding(CLASSES, 3, mask_zero=True), CLASSES), "categorical", IDS, LABELS


CASES = {**{name: (of_bits, make) for name, make in OF_BITS.items()}}
CASES |= {name: (of_classes, make) for name, make in OF_CLASSES.items()}


@pytest.mark.slow(every=3)
@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["", "weights"])
@pytest.mark.parametrize("argument", ["metrics", "weighted_metrics"])
@pytest.mark.parametrize("name", CASES)
def test_a_metric_is_that_of_the_predictions_that_count(eagerly, name, argument, weights):
    """Keras leaves the mask to the metric: AUC, a root mean square and others count padding there."""
    if name == "mean iou" and weights is not None:
        pytest.skip("Keras's takes whole numbers as weights")
    make_model, make = CASES[name]
    net, likelihood, x, y = make_model()
    outputs, oracle, metric = net(x).numpy(), make(), make()
    of_metric = weights if argument == "weighted_metrics" else None
    oracle.update_state(y[MASK], outputs[MASK], None if of_metric is None else of_metric[MASK])
    model = BayesianModel(net, likelihood=likelihood)
    model.compile(keras.optimizers.SGD(0.0), run_eagerly=True, **{argument: [metric]})
    found = []
    for method in (model.test_on_batch, model.train_on_batch):
        model.reset_metrics()
        found.append(method(x, y, sample_weight=weights, return_dict=True)[metric.name])
    np.testing.assert_allclose(found, [oracle.result()] * 2, rtol=1e-5)


@pytest.mark.parametrize("argument", ["metrics", "weighted_metrics"])
@pytest.mark.slow(every=2)
def test_in_graphs_and_of_several_outputs(argument):
    """One output for each step and one for the row, which has no mask; given by name, in another order."""
    inputs = keras.Input((None,), dtype="int32")
    common = {"posterior": PointMass()}
    embedded = keras.layers.Embedding(CLASSES, 3, mask_zero=True)(inputs)
    hidden = VariationalLSTM(3, return_sequences=True, **common)(embedded)
    steps = VariationalDense(1, name="steps", **common)(hidden)
    rows = VariationalDense(1, name="rows", **common)(VariationalLSTM(3, **common)(embedded))
    net = keras.Model(inputs, {"steps": steps, "rows": rows})
    y = {"rows": BITS[:, 0], "steps": BITS}
    outputs = {name: value.numpy() for name, value in net(IDS).items()}
    model = BayesianModel(net, likelihood="bernoulli")
    make = OF_BITS["root mean square"]
    given = {"steps": [make()], "rows": [make()]}
    model.compile(keras.optimizers.SGD(0.0), jit_compile=False, **{argument: given})
    history = model.fit(IDS, y, validation_data=(IDS, y), batch_size=4, verbose=0).history
    counts = {"steps": MASK, "rows": np.ones(ROWS, bool)}
    for name, count in counts.items():
        oracle = make()
        oracle.update_state(y[name][count], outputs[name][count])
        for prefix in ("", "val_"):
            found = history[f"{prefix}{name}_root_mean_squared_error"]
            np.testing.assert_allclose(found, [oracle.result()], rtol=1e-5)


OF_POSITIVES = {
    "mae": metrics.MeanAbsoluteError,
    "mse": metrics.MeanSquaredError,
    "root mean square": metrics.RootMeanSquaredError,
    "poisson": metrics.Poisson,
    "divergence": metrics.KLDivergence,
    "log-cosh": metrics.LogCoshError,
    "percent": metrics.MeanAbsolutePercentageError,
}


@pytest.mark.parametrize("shape", ["of rows", "of steps", "of masked steps"])
@pytest.mark.parametrize("name", OF_POSITIVES)
@pytest.mark.slow(every=4)
def test_targets_may_lack_the_axis_of_1_that_outputs_have(eagerly, name, shape):
    """Of targets [B] and outputs [B, 1] some of Keras's metrics would make [B, B], or a raw error."""
    keras.utils.set_random_seed(2)
    first = [keras.layers.Masking(0.0)] if shape == "of masked steps" else []
    recurrent = keras.layers.LSTM(3, return_sequences=shape != "of rows")
    net = keras.Sequential([*first, recurrent, keras.layers.Dense(1), keras.layers.ReLU()])
    y = GENERATOR.uniform(0.1, 0.9, MASK.shape if shape != "of rows" else ROWS).astype(np.float32)
    outputs = net(REAL).numpy()[..., 0]
    counts = MASK if first else np.ones(y.shape, bool)
    oracle, metric = OF_POSITIVES[name](), OF_POSITIVES[name]()
    oracle.update_state(y[counts][:, None], outputs[counts][:, None])
    model = BayesianModel(net, likelihood=NormalLikelihood(0.5))
    model.compile(keras.optimizers.SGD(0.0), metrics=[metric], run_eagerly=True)
    for targets in (y, y[..., None]):
        for method in (model.test_on_batch, model.train_on_batch):
            model.reset_metrics()
            found = method(REAL, targets, return_dict=True)[metric.name]
            np.testing.assert_allclose(found, oracle.result(), rtol=1e-4)
