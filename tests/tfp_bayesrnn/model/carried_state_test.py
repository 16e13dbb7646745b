"""RNN state carried from minibatch to minibatch, against whole sequences run by hand."""

import keras
import numpy as np
import pytest
import small_models
import tensorflow as tf
from small_models import (
    ROWS,
    STEPS,
    as_dataset,
    assert_identical,
    language_model,
    point_mass_language_model,
    tokens,
    values,
    windows,
)

from tfp_bayesrnn.model import recurrence
from tfp_bayesrnn.posterior import ambient

IDS = tokens()

CLOSE = {"rtol": 1e-5, "atol": 1e-6}  # The same float32 sums in another order.


def nats_of(model, ids):
    """Nats [B, T] of whole rows, from a state of zeros, under the weights' means."""
    logits = model.network(ids[:, :-1], training=False)
    return -tf.gather(tf.nn.log_softmax(logits), ids[:, 1:], batch_dims=2).numpy()


def carried(model, slot):
    return values(getattr(model, f"_carried_{slot}").variables_flat)


@pytest.mark.parametrize("unroll", [1, STEPS, 3 * STEPS])
def test_windows_are_the_whole_sequence(unroll):
    model = point_mass_language_model(learning_rate=0.0)
    expected = nats_of(model, IDS).mean()
    for logs in (
        {
            name: one
            for name, (one,) in model.fit(as_dataset(windows(IDS, unroll)), verbose=0).history.items()
        },
        model.evaluate(as_dataset(windows(IDS, unroll)), verbose=0, return_dict=True),
    ):
        np.testing.assert_allclose(logs["nll"], expected, **CLOSE)


def test_each_window_has_its_draw_and_the_state_of_the_one_before():
    model = language_model(learning_rate=0.0)
    state, nats = recurrence.initial_state(model.network, ROWS), []
    for step, (x, targets) in enumerate(windows(IDS)):
        model.optimizer.iterations.assign(step)
        with ambient.under(model.posterior.sample(model.step_seed())):
            logits, state = recurrence.run(model.network, x["inputs"], state, training=True)
        nats.append(-tf.gather(tf.nn.log_softmax(logits), targets, batch_dims=2).numpy())
    model.optimizer.iterations.assign(0)
    history = model.fit(as_dataset(windows(IDS)), verbose=0).history
    np.testing.assert_allclose(history["nll"], [np.mean(nats)], **CLOSE)


def test_rows_that_are_first_start_afresh_and_the_others_go_on():
    model = point_mass_language_model()
    (first, targets), (second, next_targets), _ = windows(IDS)
    model.test_on_batch(first, targets)
    second = {**second, "is_first": np.array([True, False])}
    logs = model.test_on_batch(second, next_targets, return_dict=True)
    restarted = nats_of(model, IDS[:1, STEPS:])[:, :STEPS]
    going_on = nats_of(model, IDS[1:])[:, STEPS : 2 * STEPS]
    np.testing.assert_allclose(logs["nll"], np.mean([restarted, going_on]), **CLOSE)
    assert abs(restarted - nats_of(model, IDS[:1])[:, STEPS : 2 * STEPS]).max() > 1e-3


def test_an_epoch_starts_afresh():
    model = point_mass_language_model(learning_rate=0.0)
    nll = model.fit(as_dataset(windows(IDS)), epochs=2, verbose=0).history["nll"]
    assert nll[0] == nll[1]


def test_no_gradient_flows_into_the_window_before():
    """Truncated backpropagation: a step depends on what came before through the state's value alone."""
    elements = windows(IDS)
    model, other = point_mass_language_model(), point_mass_language_model()
    model.fit(as_dataset(elements[:2]), verbose=0)
    other.fit(as_dataset(elements[:1]), verbose=0)
    state = [[tf.constant(value) for value in carried(other, "train")]]
    x, targets = elements[1]
    with tf.GradientTape() as tape:
        logits, _ = recurrence.run(other.network, x["inputs"], state, training=True)
        nats = tf.nn.sparse_softmax_cross_entropy_with_logits(targets, logits)
        loss = tf.reduce_sum(nats) / ROWS
    gradients = tape.gradient(loss, [variable.value for variable in other.trainable_variables])
    gradients, _ = tf.clip_by_global_norm(gradients, other.clip_norm)
    for variable, start, gradient in zip(
        model.trainable_variables, other.trainable_variables, gradients, strict=True
    ):
        np.testing.assert_allclose(
            variable.numpy(), start.numpy() - 0.5 * tf.convert_to_tensor(gradient).numpy(), **CLOSE
        )


def test_validation_in_the_middle_disturbs_neither_weights_nor_state():
    dataset = as_dataset(windows(IDS))
    # Each "epoch" is one window, so validation falls between windows of the same rows.
    arguments = {"epochs": 3, "steps_per_epoch": 1, "verbose": 0}
    plain, validated = language_model(), language_model()
    plain.fit(dataset, **arguments)
    validation = as_dataset(windows(tokens(rows=3, seed=9)))
    validated.fit(dataset, validation_data=validation, **arguments)
    assert_identical(values(validated.weights), values(plain.weights))
    assert_identical(carried(validated, "train"), carried(plain, "train"))
    assert [len(value) for value in carried(validated, "test")] == [3, 3]


def test_without_is_first_rows_are_independent():
    model = point_mass_language_model()
    x, targets = IDS[:, :-1], IDS[:, 1:]
    first = model.test_on_batch(x, targets)
    assert model.test_on_batch(x, targets) == first
    assert model._carried_test is None


def in_arrays(ids):
    """The windows of `ids` one after the other, as arrays: row r goes on from row r - ROWS."""
    elements = windows(ids)
    return (
        {name: np.concatenate([x[name] for x, _ in elements]) for name in ("inputs", "is_first")},
        np.concatenate([targets for _, targets in elements]),
    )


class InOrder(keras.utils.PyDataset):
    """The windows of `IDS`, which Keras would shuffle."""

    def __len__(self):
        return len(windows(IDS))

    def __getitem__(self, place):
        return windows(IDS)[place]


def test_fit_keeps_the_order_of_rows_that_go_on(eagerly):
    """Keras shuffles arrays and a `PyDataset` by default; a state of another row would be carried."""
    expected = nats_of(point_mass_language_model(), IDS).mean()
    for data in (in_arrays(IDS), (InOrder(),)):
        model = point_mass_language_model(learning_rate=0.0, run_eagerly=True)
        history = model.fit(*data, batch_size=ROWS if len(data) == 2 else None, epochs=3, verbose=0).history
        np.testing.assert_allclose(history["nll"], [expected] * 3, **CLOSE)
        with pytest.raises(ValueError, match=r"leave `shuffle` out. Received: shuffle=True"):
            model.fit(*data, shuffle=True, verbose=0)


def test_rows_that_are_independent_are_shuffled(eagerly):
    """As Keras does by default: the batches of an epoch are not those of the rows in their order."""
    model = point_mass_language_model(learning_rate=0.5, run_eagerly=True)
    other = point_mass_language_model(learning_rate=0.5, run_eagerly=True)
    rows = tokens(rows=16, seed=3)
    histories = [
        one.fit(rows[:, :-1], rows[:, 1:], batch_size=2, verbose=0, **arguments).history["nll"]
        for one, arguments in ((model, {}), (other, {"shuffle": False}))
    ]
    assert histories[0] != histories[1]


@pytest.mark.parametrize("has_draw", [False, True])
def test_predict_carries_the_state(has_draw):
    model = language_model(run_eagerly=True)
    draw = model.posterior.sample(4) if has_draw else model.posterior.mean()
    expected = draw.run(model.network, IDS[:, :-1]).numpy()
    x, _ = in_arrays(IDS)
    arguments = {"verbose": 0, "draw": draw if has_draw else None}
    for data in ((x, ROWS), (as_dataset(windows(IDS)), None)):
        found = model.predict(*data, **arguments)
        by_row = found.reshape(-1, ROWS, STEPS, found.shape[-1]).swapaxes(0, 1).reshape(expected.shape)
        np.testing.assert_allclose(by_row, expected, **CLOSE)
    with pytest.raises(ValueError, match="batch_size that divides their rows"):
        model.predict(x, batch_size=ROWS + 1, **arguments)


@pytest.mark.slow(but=["fit-True"])
@pytest.mark.parametrize("run_eagerly", [True, False])
@pytest.mark.parametrize("method", ["fit", "evaluate"])
def test_another_batch_size_is_an_error_until_the_model_is_compiled_again(method, run_eagerly):
    model = point_mass_language_model(run_eagerly=run_eagerly)
    getattr(model, method)(as_dataset(windows(IDS)), verbose=0)
    wider = as_dataset(windows(tokens(rows=ROWS + 1)))
    with pytest.raises(ValueError, match=r"needs one batch size.*Received: is_first\.shape"):
        getattr(model, method)(wider, verbose=0)
    model.compile(model.optimizer, run_eagerly=True)
    getattr(model, method)(wider, verbose=0)


def test_is_first_needs_a_network_that_carries_a_state():
    model = small_models.regression()
    x, y = small_models.regression_data()
    with pytest.raises(ValueError, match="no recurrent layer"):
        model.train_on_batch({"inputs": x, "is_first": np.ones(len(x), bool)}, y)
