"""The rows that `fit` counts, what it says of a number that is wrong, the warm-up of the KL."""

import warnings

import keras
import numpy as np
import pytest
import tensorflow as tf
from small_models import (
    WIDE,
    as_dataset,
    language_model,
    regression,
    regression_data,
    tokens,
    values,
    windows,
)

from tfp_bayesrnn import VariationalDense
from tfp_bayesrnn.model.fit_watch import FitWatch
from tfp_bayesrnn.model.training_rows import Epoch

X, Y = regression_data(rows=50)
BATCH = 8


def dataset(rows=50, **batching):
    return tf.data.Dataset.from_tensor_slices((X[:rows], Y[:rows])).batch(BATCH, **batching)


class Pieces(keras.utils.PyDataset):
    def __len__(self):
        return 7

    def __getitem__(self, index):
        return tuple(part[index * BATCH : (index + 1) * BATCH] for part in (X, Y))


# What is given to `fit`, and how many rows of it are trained on.
DATA = {
    "arrays": (lambda: {"x": X, "y": Y}, 50),
    "part of the arrays": (lambda: {"x": X, "y": Y, "validation_split": 0.25}, 37),
    "shorter epochs of arrays": (lambda: {"x": X, "y": Y, "steps_per_epoch": 2}, 50),
    "dataset": (lambda: {"x": dataset()}, 50),
    "dataset of whole minibatches": (lambda: {"x": dataset(drop_remainder=True)}, 48),
    "shuffled dataset": (lambda: {"x": dataset().shuffle(3).prefetch(1)}, 50),
    "PyDataset": (lambda: {"x": Pieces()}, 50),
}
UNKNOWN = {
    "endless dataset": lambda: {"x": dataset(drop_remainder=True).repeat(), "steps_per_epoch": 6},
    "dataset of unknown length": lambda: {"x": dataset(drop_remainder=True).filter(lambda *_: True)},
    "generator": lambda: {"x": ((X, Y) for _ in range(8)), "steps_per_epoch": 1},
}


def fit(model, data, **arguments):
    """Returns what `fit` warned of, of rows and of the KL."""
    data = data()
    sizes = {} if "y" not in data else {"batch_size": BATCH}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model.fit(**data, **sizes, verbose=0, **arguments)
    return [str(one.message) for one in caught if "training_rows" in str(one.message)]


@pytest.mark.parametrize("name", DATA)
@pytest.mark.slow(every=3)
def test_fit_counts_them_where_none_are_given(name):
    data, rows = DATA[name]
    model = regression(training_rows=None)
    assert model.training_rows is None
    assert fit(model, data) == []
    assert model.training_rows == rows
    assert model.get_config()["training_rows"] is None
    logs = model.train_on_batch(X, Y, return_dict=True)  # Goes on with the number.
    np.testing.assert_allclose(logs["free_energy"], logs["loss"] + logs["kl"] / rows, rtol=1e-5)


def test_a_number_that_is_counted_trains_as_one_that_is_given():
    trained = []
    for given in (None, 50):
        model = regression(training_rows=given)
        fit(model, DATA["arrays"][0], epochs=2)
        trained.append(values(model.trainable_variables))
    for one, other in zip(*trained, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7)


def test_each_call_counts_its_own_data_and_the_compiled_step_follows():
    """The number is a variable: the step is not compiled again."""
    model = regression(training_rows=None, run_eagerly=False)
    for rows in (48, 16):
        fit(model, lambda rows=rows: {"x": dataset(rows, drop_remainder=True)})
        assert model.training_rows == rows
    step = model.compiled_step
    fit(model, lambda: {"x": X, "y": Y})
    assert model.compiled_step is step


@pytest.mark.parametrize("name", UNKNOWN)
def test_other_data_need_a_number(name):
    with pytest.raises(ValueError, match=r"fit counts the rows of arrays.*Received: training_rows=None"):
        fit(regression(training_rows=None), UNKNOWN[name])


@pytest.mark.slow
def test_another_number_counts_from_the_next_fit_on():
    model = regression(run_eagerly=False)
    losses = []
    for number in (6, 600, 6):
        model.training_rows = number
        logs = model.fit(X[:6], Y[:6], epochs=1, verbose=0, shuffle=False).history
        losses.append((logs["kl"][0], logs["free_energy"][0] - logs["loss"][0]))
    for number, (kl, share) in zip((6, 600, 6), losses, strict=True):
        np.testing.assert_allclose(share, kl / number, rtol=1e-3)


WRONG = {
    "a minibatch": (BATCH, "arrays"),
    "with those of validation": (50, "part of the arrays"),
    "another data set": (1000, "arrays"),
    "off by one": (51, "arrays"),
    "a minibatch, dataset": (BATCH, "dataset"),
    "another dataset": (500, "dataset"),
    "another dataset of whole minibatches": (500, "dataset of whole minibatches"),
    "another PyDataset": (500, "PyDataset"),
    "a minibatch, endless": (BATCH, "endless dataset"),
    "another data set, of unknown length": (500, "dataset of unknown length"),
}


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.slow(every=3)
def test_a_wrong_number_is_noticed_once(name):
    given, data = WRONG[name]
    make = DATA[data][0] if data in DATA else UNKNOWN[data]
    found = [
        one for one in fit(regression(training_rows=given), make, epochs=2) if one.startswith("An epoch")
    ]
    assert len(found) == 1
    assert f"training_rows={given}" in found[0]


# What may be meant: rows that fill no minibatch are dropped, an epoch is a part of the data.
RIGHT = {
    "the dropped rows too": (50, "dataset of whole minibatches"),
    "without the dropped rows": (48, "dataset of whole minibatches"),
    "dataset": (50, "dataset"),
    "more than an epoch of an endless dataset": (50_000, "endless dataset"),
    "unknown length": (50, "dataset of unknown length"),
    "shorter epochs": (50, "shorter epochs of arrays"),
}


@pytest.mark.parametrize("name", RIGHT)
@pytest.mark.slow(every=3)
def test_a_right_number_is_not_remarked_upon(name):
    given, data = RIGHT[name]
    make = DATA[data][0] if data in DATA else UNKNOWN[data]
    assert fit(regression(training_rows=given), make) == []


@pytest.mark.parametrize(("given", "is_noticed"), [(2 * 5, False), (5, True), (2, True)])
@pytest.mark.slow(every=3)
def test_windows_of_a_stream_are_rows_too(given, is_noticed):
    """Two rows go on through five windows."""
    data = as_dataset(windows(tokens(rows=2, length=20)))
    found = fit(language_model(training_rows=given), lambda: {"x": data, "shuffle": False})
    assert bool(found) == is_noticed


def test_validation_and_a_list_of_callbacks_are_left_alone():
    called = []
    callback = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: called.append(sorted(logs)))
    model = regression(training_rows=None)
    data = {"x": X, "y": Y, "validation_data": (X[:20], Y[:20])}
    history = model.fit(**data, callbacks=[callback], verbose=0).history
    assert model.training_rows == 50
    assert called == [sorted(history)]
    model = regression(training_rows=3)
    stack = keras.callbacks.CallbackList([callback], add_history=True, model=model, epochs=1, steps=2)
    before = list(stack.callbacks)
    assert fit(model, lambda: {"x": X, "y": Y, "callbacks": stack})
    assert stack.callbacks == before


@pytest.mark.slow
def test_several_replicas_have_the_rows_of_all_of_them(mirrored):
    with mirrored(2).scope():
        model = regression(training_rows=None, compiled=False)
        model.compile("sgd", jit_compile=False)
    assert fit(model, lambda: {"x": dataset()}) == []
    assert model.training_rows == 50


class TestWarmUp:
    @pytest.mark.parametrize(("rows", "steps"), [(6, 300), (1_024, 1_024 / 3), (1_000_000, 1_000)])
    def test_is_a_third_of_the_rows_within_bounds(self, rows, steps):
        for given in (rows, None):
            model = regression(training_rows=given, kl_warmup_steps="auto", kl_weight=0.5)
            model.counted_rows.count(rows)
            for taken, expected in ((0, 0.0), (75, 0.5 * 75 / steps), (2_000, 0.5)):
                model.optimizer.iterations.assign(taken)
                np.testing.assert_allclose(model.step_kl_weight(), expected, rtol=1e-6)

    def test_is_the_default_and_is_saved(self, tmp_path):
        model = regression(kl_warmup_steps="auto")
        assert model.get_config()["kl_warmup_steps"] == "auto"
        model.save(tmp_path / "m.keras")
        assert keras.saving.load_model(tmp_path / "m.keras").kl_warmup_steps == "auto"


class TestAKLThatDwarfsTheLikelihood:
    def model(self, **arguments):
        layers = [VariationalDense(64, activation="tanh", **WIDE), VariationalDense(1, **WIDE)]
        return regression(layers, **{"training_rows": None, "kl_weight": 50.0, **arguments})

    def found(self, model, **arguments):
        return [
            one
            for one in fit(model, lambda: {"x": X[:2], "y": np.full((2, 1), 0.1), **arguments})
            if "the KL is" in one
        ]

    def test_is_remarked_upon_once(self):
        (found,) = self.found(self.model(), epochs=3)
        assert found.startswith("In epoch 1")
        assert found.endswith("Received: training_rows=2, kl_weight=50")

    def test_is_not_while_it_counts_for_little(self):
        assert not self.found(self.model(kl_weight=1e-3))
        assert not self.found(self.model(kl_warmup_steps="auto"))

    def test_is_not_where_the_likelihood_has_been_learned(self):
        """A small NLL of what has been learned is no sign of a collapse."""
        model = self.model(kl_weight=0.0)
        rows = model.counted_rows
        rows.count(2)
        watch = FitWatch(rows)
        watch.set_model(model)
        for nll in (10.0, 0.01):
            watch.epoch = Epoch(2, 1, 1, False, False)
            model.reset_metrics()
            model.loss_tracker.update_state(nll, sample_weight=2.0)
            model.nll_tracker.update_state(nll, sample_weight=2.0)
            model.kl_tracker.update_state(100.0)
            model.kl_weight = 1.0
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                watch.on_epoch_end(0)
