"""A network as a function of (inputs, state)."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfp_bayesrnn.layers import (
    Dropout,
    VariationalDense,
    VariationalEmbedding,
    VariationalGRU,
    VariationalLSTM,
    VariationalLSTMCell,
)
from tfp_bayesrnn.model import recurrence
from tfp_bayesrnn.posterior import ambient
from tfp_bayesrnn.posterior.posterior import Posterior

BATCH, STEPS, VOCABULARY = 3, 6, 7
IDS = np.random.default_rng(0).integers(1, VOCABULARY, (BATCH, STEPS))


def make_network(mask_zero=False):
    keras.utils.set_random_seed(0)
    network = keras.Sequential(
        [
            VariationalEmbedding(VOCABULARY, 4, mask_zero=mask_zero),
            VariationalLSTM(5, return_sequences=True),
            keras.layers.LSTM(4, return_sequences=True),
            keras.layers.Dropout(0.5),
            VariationalGRU(3, return_sequences=True),
            keras.layers.RNN(VariationalLSTMCell(3), return_sequences=True),
            VariationalDense(VOCABULARY),
        ],
        name="network",
    )
    network(IDS)
    return network


def run_in_parts(network, parts, training=False):
    state, outputs = recurrence.initial_state(network, BATCH), []
    for part in parts:
        output, state = recurrence.run(network, part, state, training)
        outputs.append(output)
    return np.concatenate(outputs, axis=1), state


class TestSequential:
    @pytest.mark.slow(but=["mean, eager"])
    @pytest.mark.parametrize(
        "sampled, compiled", [(False, False), (True, True)], ids=["mean, eager", "sample, graph"]
    )
    def test_two_halves_with_the_state_carried_are_the_whole(self, sampled, compiled):
        network = make_network()
        posterior = Posterior.of(network)

        def run(ids):
            draw = posterior.sample(2) if sampled else posterior.mean()
            with ambient.under(draw):
                whole, state = recurrence.run(network, ids, recurrence.initial_state(network, BATCH), False)
                first, middle = recurrence.run(
                    network, ids[:, :2], recurrence.initial_state(network, BATCH), False
                )
                second, end = recurrence.run(network, ids[:, 2:], middle, False)
                return whole, tf.concat([first, second], axis=1), state, end

        whole, halves, state, end = (tf.function(run) if compiled else run)(tf.constant(IDS))
        # Float32 over six steps and four recurrent layers.
        if not sampled:
            np.testing.assert_allclose(whole, network(IDS), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(halves, whole, rtol=1e-5, atol=1e-6)
        for a, b in zip(tf.nest.flatten(end), tf.nest.flatten(state), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
        assert np.abs(halves[:, 2:] - network(IDS[:, 2:])).max() > 1e-4  # So the state matters.

    def test_state_has_the_structure_of_the_layers(self):
        network = make_network()
        state = recurrence.initial_state(network, BATCH)
        shapes = tf.nest.map_structure(lambda value: tuple(value.shape), state)
        assert shapes == [[(3, 5)] * 2, [(3, 4)] * 2, [(3, 3)], [(3, 3)] * 2]
        assert not any(np.any(value) for value in tf.nest.flatten(state))
        _, after = recurrence.run(network, IDS, state, False)
        tf.nest.assert_same_structure(after, state)
        assert all(np.any(value != 0) for value in tf.nest.flatten(after))

    def test_layers_are_left_as_they_were(self):
        network = make_network()
        expected = network(IDS)
        run_in_parts(network, [IDS])
        np.testing.assert_array_equal(network(IDS), expected)
        with pytest.raises(ValueError):
            recurrence.run(network, IDS[:2], recurrence.initial_state(network, BATCH), False)
        np.testing.assert_array_equal(network(IDS), expected)

    def test_masks_go_along(self):
        network = make_network(mask_zero=True)
        ids = IDS.copy()
        ids[0, 3:] = ids[1, 1] = 0
        halves, _ = run_in_parts(network, [ids[:, :2], ids[:, 2:]])
        # A masked step repeats the output before it, at first zeros: in halves, another one than in a whole.
        kept = ids != 0
        np.testing.assert_allclose(halves[kept], network(ids).numpy()[kept], rtol=1e-5, atol=1e-6)
        assert np.abs(halves - make_network()(ids))[1, 2:].max() > 1e-4  # The mask matters.

    def test_training_reaches_the_layers(self):
        layer = Dropout(0.5)
        network = keras.Sequential([VariationalLSTM(4, return_sequences=True), layer])
        inputs = np.ones((BATCH, STEPS, 2), np.float32)
        network(inputs)
        state = recurrence.initial_state(network, BATCH)
        with pytest.raises(ValueError, match="kl_weight"):
            recurrence.run(network, inputs, state, True)
        outputs, _ = recurrence.run(network, inputs, state, False)
        assert np.all(outputs != 0)

    def test_half_precision(self):
        network = keras.Sequential([VariationalGRU(4, return_sequences=True, dtype="mixed_bfloat16")])
        inputs = np.ones((BATCH, STEPS, 2), np.float32)
        outputs, state = recurrence.run(network, inputs, recurrence.initial_state(network, BATCH), False)
        assert outputs.dtype == tf.bfloat16 and state[0][0].dtype == tf.bfloat16


class TestRestart:
    STATE = [[tf.ones([3, 2]), 2 * tf.ones([3, 4])], {"attention": 3 * tf.ones([3, 2, 2])}, tf.ones([3])]

    @pytest.mark.parametrize("dtype", [tf.bool, tf.int32, tf.float32], ids=lambda dtype: dtype.name)
    def test_zeroes_the_rows_that_start(self, dtype):
        restarted = recurrence.restart(self.STATE, tf.cast([False, True, False], dtype))
        tf.nest.assert_same_structure(restarted, self.STATE)
        for new, old in zip(tf.nest.flatten(restarted), tf.nest.flatten(self.STATE), strict=True):
            np.testing.assert_array_equal(new[1], tf.zeros_like(old[1]))
            np.testing.assert_array_equal(tf.gather(new, [0, 2]), tf.gather(old, [0, 2]))

    def test_a_state_that_is_not_finite_is_gone(self):
        (restarted,) = recurrence.restart([tf.constant([[np.nan], [np.inf]])], [True, True])
        np.testing.assert_array_equal(restarted, [[0.0], [0.0]])

    def test_restarted_rows_run_like_new_ones(self):
        network = make_network()
        _, state = run_in_parts(network, [IDS])
        restarted = recurrence.restart(state, [True, False, True])
        outputs, _ = recurrence.run(network, IDS, restarted, False)
        fresh = network(IDS)
        np.testing.assert_allclose(tf.gather(outputs, [0, 2]), tf.gather(fresh, [0, 2]), rtol=1e-5, atol=1e-6)
        assert np.abs(outputs[1] - fresh[1]).max() > 1e-4


class OwnState(keras.Model):
    """A network that has the two methods."""

    def get_initial_state(self, batch_size):
        return {"sum": tf.zeros([batch_size])}

    def run(self, inputs, state, training):
        return inputs, {"sum": state["sum"] + tf.reduce_sum(inputs, axis=1) + (100.0 if training else 0.0)}


def test_network_with_methods_of_its_own():
    network = OwnState()
    state = recurrence.initial_state(network, 2)
    inputs = tf.constant([[1.0, 2.0], [3.0, 4.0]])
    outputs, state = recurrence.run(network, inputs, state, training=False)
    np.testing.assert_array_equal(outputs, inputs)
    np.testing.assert_array_equal(recurrence.run(network, inputs, state, True)[1]["sum"], [106.0, 114.0])


def functional():
    inputs = keras.Input((None, 2))
    return keras.Model(inputs, keras.layers.LSTM(2)(inputs))


@pytest.mark.parametrize(
    "make, message",
    [
        pytest.param(functional, r"must be a keras.Sequential.*Received: Functional", id="functional"),
        pytest.param(
            lambda: keras.Sequential(
                [keras.layers.LSTM(2), keras.layers.Bidirectional(keras.layers.GRU(2), name="both_ways")]
            ),
            r"both_ways",
            id="bidirectional",
        ),
        pytest.param(
            lambda: keras.Sequential([keras.Sequential([VariationalLSTM(2)], name="inner")]),
            r"inner",
            id="nested",
        ),
    ],
)
def test_networks_that_cannot_carry_a_state_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        recurrence.initial_state(make(), 2)
    with pytest.raises(ValueError, match=message):
        recurrence.run(make(), tf.zeros([2, 3, 2]), [], False)


def test_network_without_a_state_is_named():
    with pytest.raises(ValueError, match=r"no recurrent layer.*Received: network='flat'"):
        recurrence.initial_state(keras.Sequential([keras.layers.Dense(2)], name="flat"), 2)
