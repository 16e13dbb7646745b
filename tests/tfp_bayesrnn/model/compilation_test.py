"""Where `jit_compile="auto"` compiles: for enough steps of enough weights."""

import numpy as np
import pytest
import tensorflow as tf
from small_models import regression, regression_data

from tfp_bayesrnn import VariationalDense
from tfp_bayesrnn.model import compilation
from tfp_bayesrnn.model.fit_watch import FitWatch
from tfp_bayesrnn.model.training_rows import Epoch

X, Y = regression_data(rows=16)


def model(units=2, **arguments):
    found = regression([VariationalDense(units), VariationalDense(1)], compiled=False, **arguments)
    found.compile("sgd")
    return found


@pytest.mark.parametrize(
    ("units", "steps", "is_uneven", "expected"),
    [
        (2, 960, False, False),  # 30 epochs of 1,024 rows.
        (2, 2_000, False, True),
        (2, 2_000, True, False),  # XLA compiles a second time for the last minibatch.
        (2, 10_000, True, True),
        (500_000, 60, False, True),  # Large networks win at once.
        (2, None, False, True),  # Nobody knows how many.
    ],
)
def test_by_steps_and_weights(units, steps, is_uneven, expected):
    one = model(units)
    one.fit_watch = FitWatch(one.counted_rows)
    one.fit_watch.steps = steps
    one.fit_watch.epoch = Epoch(16, 1, steps, False, is_uneven)
    assert one.use_jit() == expected
    one.compile("sgd", jit_compile=True)
    assert one.use_jit()


def test_outside_of_fit_it_compiles():
    assert model().use_jit()


@pytest.mark.slow
def test_few_steps_are_not_compiled_and_many_are_from_the_next_fit_on(monkeypatch):
    one = model(training_rows=None)
    data = {"batch_size": 4, "epochs": 2, "verbose": 0}
    one.fit(X, Y, **data)
    assert one.is_step_compiled is False
    one.train_on_batch(X, Y)
    assert one.is_step_compiled is False
    plain = one.compiled_step
    one.fit(X, Y, **data)
    assert one.compiled_step is plain
    monkeypatch.setattr(compilation, "_COMPILATION", 100)
    one.fit(X, Y, **data)
    assert one.is_step_compiled is True
    assert np.isfinite(one.train_on_batch(X, Y, return_dict=True)["loss"])


@pytest.mark.parametrize(
    ("rows", "batching", "is_uneven"),
    [(16, {}, True), (16, {"drop_remainder": True}, False)],
)
def test_a_dataset_tells_whether_its_minibatches_are_alike(rows, batching, is_uneven):
    one = model(training_rows=None)
    seen = []
    one.begins_to_read = lambda iterator: (one.fit_watch.look_at(iterator), seen.append(one.fit_watch.epoch))
    one.fit(tf.data.Dataset.from_tensor_slices((X, Y)).batch(4, **batching), verbose=0)
    assert seen[0].is_uneven == is_uneven
