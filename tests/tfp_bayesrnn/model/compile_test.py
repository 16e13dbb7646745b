"""The arguments of `compile` and the weights of `fit` and `evaluate`, as Keras's model takes them."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from small_models import regression, regression_data

from tfp_bayesrnn import BayesianModel

ROWS, STEPS, CLASSES = 4, 3, 5
GENERATOR = np.random.default_rng(0)
X = GENERATOR.integers(0, CLASSES, (ROWS, STEPS)).astype(np.int32)
Y = GENERATOR.integers(0, CLASSES, (ROWS, STEPS)).astype(np.int32)
W = GENERATOR.uniform(size=(ROWS, STEPS)).astype(np.float32)
CLASS_WEIGHTS = {0: 0.5, 1: 2.0, 3: 1.5}  # Of class 2, and of those after 3, it is 1.
OF_CLASSES = np.array([0.5, 2.0, 1.0, 1.5, 1.0], np.float32)

CLOSE = {"rtol": 1e-5, "atol": 1e-6}


def network(sequences=True):
    keras.utils.set_random_seed(1)
    pooling = [] if sequences else [keras.layers.GlobalAveragePooling1D()]
    layers = [keras.layers.Embedding(CLASSES, 4), *pooling, keras.layers.Dense(CLASSES)]
    return keras.Sequential([keras.Input((STEPS,), dtype="int32"), *layers])


def both(sequences=True, **compiling):
    """Keras's model and ours, of equal weights."""
    compiling = {"metrics": ["accuracy"], "weighted_metrics": ["accuracy"], **compiling}
    theirs, ours = network(sequences), BayesianModel(network(sequences))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    # Keras's loss is a mean over predictions, ours is summed over the steps of a row.
    rate = 0.1 * STEPS if sequences else 0.1
    theirs.compile(keras.optimizers.SGD(rate), loss=loss, **{"run_eagerly": True, **compiling})
    ours.compile(keras.optimizers.SGD(0.1), **{"run_eagerly": True, **compiling})
    return theirs, ours


def assert_same_logs(logs, expected, steps=STEPS):
    for name, value in expected.items():
        scale = steps if name.endswith("loss") else 1
        np.testing.assert_allclose(logs[name], np.multiply(scale, value), **CLOSE, err_msg=name)


SHAPES = {
    "none": None,
    "[B, 1]": W[:, :1],
    "[B, T]": W,
    "[B, T, 1]": W[:, :, np.newaxis],
    "[B, 1, 1]": W[:, :1, np.newaxis],
    "integers": (W > 0.5).astype(np.int64),
    "booleans": W > 0.5,
}


class TestSampleWeight:
    @pytest.mark.slow(but=["none", "booleans"])
    @pytest.mark.parametrize("weights", SHAPES.values(), ids=SHAPES.keys())
    def test_of_sequences(self, weights):
        """The same shapes, and the same losses and metrics, trained, validated and evaluated."""
        data = (X, Y) if weights is None else (X, Y, weights)
        theirs, ours = both()
        expected, found = (
            model.fit(
                X, Y, sample_weight=weights, validation_data=data, batch_size=2, shuffle=False, verbose=0
            )
            for model in (theirs, ours)
        )
        assert_same_logs(found.history, expected.history)
        expected, found = (
            model.evaluate(*data[:2], sample_weight=weights, verbose=0, return_dict=True)
            for model in (theirs, ours)
        )
        assert_same_logs(found, expected)

    @pytest.mark.parametrize("shape", [(ROWS,), (ROWS, 1)], ids=str)
    def test_of_rows(self, shape):
        theirs, ours = both(sequences=False)
        weights, labels = W[:, 0].reshape(shape), Y[:, 0]
        expected, found = (
            model.train_on_batch(X, labels, weights, return_dict=True) for model in (theirs, ours)
        )
        assert_same_logs(found, expected, steps=1)

    def test_of_whole_sequences(self):
        """[B] is [B, 1]; Keras takes it for the weights of the steps, if it can."""
        logs = [both()[1].train_on_batch(X, Y, weights, return_dict=True) for weights in (W[:, 0], W[:, :1])]
        assert logs[0] == logs[1]

    @pytest.mark.parametrize("shape", [(ROWS, STEPS + 1), (ROWS, STEPS, 2)], ids=str)
    def test_of_another_shape(self, shape):
        _, ours = both(metrics=None, weighted_metrics=None)
        with pytest.raises(ValueError, match=r"Received: weights or mask of shape .*, predictions of shape"):
            ours.train_on_batch(X, Y, np.ones(shape, np.float32))


class TestClassWeight:
    def fit(self, model, *data, **arguments):
        return model.fit(*data, batch_size=ROWS, shuffle=False, verbose=0, **arguments).history

    def test_of_rows_is_kerass(self):
        theirs, ours = both(sequences=False)
        expected, found = (
            self.fit(model, X, Y[:, 0], class_weight=CLASS_WEIGHTS) for model in (theirs, ours)
        )
        assert_same_logs(found, expected, steps=1)

    @pytest.mark.parametrize("sequences", [False, True])
    def test_of_one_hot_targets_is_that_of_their_classes(self, sequences):
        labels = Y if sequences else Y[:, 0]
        one_hot = keras.utils.to_categorical(labels, len(OF_CLASSES))
        logs = [
            self.fit(both(sequences, run_eagerly=eagerly)[1], X, targets, class_weight=CLASS_WEIGHTS)
            for targets, eagerly in ((labels, True), (one_hot, True), (one_hot, False))
        ]
        assert_same_logs(logs[1], logs[0], steps=1)
        assert_same_logs(logs[2], logs[0], steps=1)

    def test_of_sequences_weighs_every_prediction(self):
        """As the weights themselves do, which Keras takes too; itself it would weigh by the largest id."""
        theirs, ours = both()
        expected = self.fit(theirs, X, Y, sample_weight=OF_CLASSES[Y])
        dataset = tf.data.Dataset.from_tensor_slices((X, Y)).batch(ROWS)
        assert_same_logs(self.fit(ours, X, Y, class_weight=CLASS_WEIGHTS), expected)
        assert_same_logs(both()[1].fit(dataset, class_weight=CLASS_WEIGHTS, verbose=0).history, expected)
        logs = both()[1].train_on_batch(X, Y, class_weight=CLASS_WEIGHTS, return_dict=True)
        assert_same_logs(logs, {name: values[0] for name, values in expected.items()})

    def test_is_of_one_call(self):
        """A compiled step is made anew for other class weights."""
        _, ours = both()
        ours.compile(keras.optimizers.SGD(0.1), jit_compile=False)
        ours.optimizer.learning_rate = 0.0
        losses = [
            self.fit(ours, X, Y, class_weight=weights)["loss"][0]
            for weights in (None, CLASS_WEIGHTS, {0: 3.0}, None)
        ]
        assert losses[0] == losses[3] and len(set(losses)) == 3

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"sample_weight": W, "class_weight": CLASS_WEIGHTS}, "Received: class_weight=.* and a sample"),
            ({"class_weight": {-1: 2.0}}, r"Received: class_weight=\{-1: 2\.0\}"),
            ({"class_weight": [1.0, 2.0]}, r"Received: class_weight=\[1\.0, 2\.0\]"),
            ({"class_weight": {"a": 1.0}}, "Received: class_weight=.*'a'"),
        ],
        ids=["and sample_weight", "negative", "a list", "names"],
    )
    def test_refused(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            self.fit(both()[1], X, Y, **arguments)


class TestMetrics:
    X, Y = regression_data()

    def compiled(self, *metrics, model=None, weighted=None):
        model = model or regression(compiled=False)
        model.compile(keras.optimizers.SGD(0.01), metrics=list(metrics), weighted_metrics=weighted)
        model.run_eagerly = True
        return model

    def logs(self, model):
        fitted = model.fit(self.X, self.Y, verbose=0, validation_data=(self.X, self.Y)).history
        evaluated = model.evaluate(self.X, self.Y, verbose=0, return_dict=True)
        assert {f"val_{name}" for name in evaluated} <= set(fitted)
        return set(evaluated)

    OWN = {"loss", "nll"}

    @pytest.mark.slow(but=["name-True"])
    @pytest.mark.parametrize("trained_between", [False, True])
    @pytest.mark.parametrize("metric", ["mae", keras.metrics.MeanAbsoluteError], ids=["name", "object"])
    def test_compiled_again_with_others_or_none(self, metric, trained_between):
        make = metric if isinstance(metric, str) else metric(name="mae")
        model = self.compiled(make)
        if trained_between:
            assert self.logs(model) == {*self.OWN, "mae"}
        for metrics in (["mse"], [], None, ["mae", "mse"]):
            self.compiled(*(metrics or []), model=model)
            if metrics is None:
                model.compile(run_eagerly=True)
            assert self.logs(model) == {*self.OWN, *(metrics or [])}
        self.compiled(model=model, weighted=["mse"])
        assert self.logs(model) == {*self.OWN, "mse"}

    def test_an_object_is_reported_once_and_starts_afresh(self):
        metric = keras.metrics.MeanAbsoluteError(name="mae")
        model = self.compiled(metric)
        for _ in range(2):
            wanted = float(np.mean(np.abs(model.predict(self.X, verbose=0) - self.Y)))
            logs = model.evaluate(self.X, self.Y, verbose=0, return_dict=True)
            np.testing.assert_allclose(logs["mae"], wanted, rtol=1e-5)
            assert len(model.evaluate(self.X, self.Y, verbose=0)) == 3
            self.compiled(metric, model=model)

    def test_come_back_with_a_saved_model(self, tmp_path):
        model = self.compiled("mae", weighted=["mse"])
        model.compile(metrics=["mae"], weighted_metrics=["mse"], run_eagerly=True, clip_norm=2.0)
        expected = model.evaluate(self.X, self.Y, verbose=0, return_dict=True)
        model.save(tmp_path / "m.keras")
        again = keras.models.load_model(tmp_path / "m.keras")
        assert again.evaluate(self.X, self.Y, verbose=0, return_dict=True) == expected
        assert again.clip_norm == 2.0


class TestArguments:
    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            ({"loss": "mse"}, ValueError, "Received: loss='mse'"),
            ({"loss_weights": [1.0]}, ValueError, r"Received: loss_weights=\[1\.0\]"),
            ({"clip_norm": 0.0}, ValueError, r"Received: clip_norm=0\.0"),
            ({"clip_norm": -1.0}, ValueError, r"Received: clip_norm=-1\.0"),
            ({"clip_norm": np.nan}, ValueError, "Received: clip_norm=nan"),
            ({"clip_norm": "5.0"}, ValueError, r"Received: clip_norm='5\.0'"),
            ({"jit_compile": 1}, ValueError, "Received: jit_compile=1"),
            ({"jit_compile": np.ones(2)}, ValueError, r"Received: jit_compile=array"),
            ({"jit_compile": "yes"}, ValueError, "Received: jit_compile='yes'"),
            ({"steps_per_execution": 0}, ValueError, "Received: steps_per_execution=0"),
            ({"optimizer": "sdg"}, ValueError, "sdg"),
            ({"metrics": "mae"}, ValueError, "metrics=mae"),
            ({"learning_rate": 0.1}, TypeError, "unexpected keyword argument 'learning_rate'"),
        ],
        ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
    )
    def test_refused(self, arguments, error, message):
        with pytest.raises(error, match=message):
            regression(compiled=False).compile(**arguments)

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            (("adam", "mse"), "Received: loss='mse'"),
            (("adam", keras.losses.MeanSquaredError()), "Received: loss=<"),
            (("adam", 5.0), r"clip_norm=5\.0.*Received: loss=5\.0"),
            (("adam", None, [0.5]), r"Received: loss_weights=\[0\.5\]"),
        ],
        ids=["loss", "loss object", "clip_norm of earlier versions", "loss_weights"],
    )
    def test_a_loss_where_keras_has_it_is_refused(self, given, message):
        """Not taken for `clip_norm`."""
        with pytest.raises(ValueError, match=message):
            regression(compiled=False).compile(*given)

    def test_the_optimizer_is_adam_unless_one_is_given(self):
        model = regression(compiled=False)
        model.compile()
        assert type(model.optimizer) is keras.optimizers.Adam

    @pytest.mark.parametrize("auto_scale_loss", [True, False])
    def test_scaling_of_the_loss_in_half_precision(self, tmp_path, auto_scale_loss):
        """As Keras does it, if it is asked for."""
        before = keras.config.dtype_policy()
        keras.config.set_dtype_policy("mixed_float16")
        try:
            model = regression(compiled=False)
            model.compile("adam", auto_scale_loss=auto_scale_loss, run_eagerly=True)
            model.train_on_batch(*regression_data())
            model.save(tmp_path / "m.keras")
            again = keras.models.load_model(tmp_path / "m.keras")
        finally:
            keras.config.set_dtype_policy(before)
        for one in (model, again):
            assert isinstance(one.optimizer, keras.optimizers.LossScaleOptimizer) == auto_scale_loss
            assert int(one.optimizer.iterations) == 1
