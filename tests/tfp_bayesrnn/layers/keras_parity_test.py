"""The recurrent layers on average: all that `keras.layers.LSTM` and `GRU` do, with the same weights."""

import keras
import numpy as np
import pytest
from rnn_oracles import BATCH, FEATURES, MASK, STEPS, UNITS, assert_all_close

from tfp_bayesrnn.layers import VariationalGRU, VariationalGRUCell, VariationalLSTM, VariationalLSTMCell

TOLERANCE = 1e-5  # Of float32 over five steps.

RNG = np.random.default_rng(0)
INPUTS = RNG.normal(size=(BATCH, STEPS, FEATURES)).astype(np.float32)
STATES = [RNG.normal(size=(BATCH, UNITS)).astype(np.float32) for _ in range(2)]

LAYERS = {"lstm": VariationalLSTM, "gru": VariationalGRU}
CELLS = {"lstm": VariationalLSTMCell, "gru": VariationalGRUCell}
KERAS_LAYERS = {"lstm": keras.layers.LSTM, "gru": keras.layers.GRU}
KERAS_CELLS = {"lstm": keras.layers.LSTMCell, "gru": keras.layers.GRUCell}
STATE_COUNT = {"lstm": 2, "gru": 1}

each_kind = pytest.mark.parametrize("kind", LAYERS)


def built(layer):
    keras.utils.set_random_seed(0)
    layer.build(INPUTS.shape)
    return layer


def both(kind, **options):
    """Our layer, and Keras's with the means as its weights."""
    ours, theirs = built(LAYERS[kind](UNITS, **options)), KERAS_LAYERS[kind](UNITS, **options)
    theirs.build(INPUTS.shape)
    cell = ours.cell
    weights = [w for w in (cell.kernel, cell.recurrent_kernel, cell.bias) if w is not None]
    theirs.set_weights([w.mu.numpy() for w in weights] + theirs.get_weights()[len(weights) :])
    return ours, theirs


class TestParityWithKeras:
    OPTIONS = {
        "last output": {},
        "sequences": {"return_sequences": True},
        "state": {"return_state": True},
        "sequences and state": {"return_sequences": True, "return_state": True},
        "backwards": {"return_sequences": True, "return_state": True, "go_backwards": True},
        "last output backwards": {"go_backwards": True},
        "zero output": {"return_sequences": True, "return_state": True, "zero_output_for_mask": True},
        "last zero output": {"zero_output_for_mask": True},
        "zero output backwards": {
            "return_sequences": True,
            "zero_output_for_mask": True,
            "go_backwards": True,
        },
        "no bias": {"use_bias": False},
        "random bias": {"bias_initializer": "random_normal"},
        "other activations": {"activation": "relu", "recurrent_activation": "hard_sigmoid"},
    }

    @pytest.mark.slow(every=3)
    @each_kind
    @pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
    def test_outputs(self, kind, options):
        ours, theirs = both(kind, **options)
        state = STATES[: STATE_COUNT[kind]]
        for call in ({}, {"mask": MASK}, {"initial_state": state}, {"initial_state": state, "mask": MASK}):
            assert_all_close(ours(INPUTS, **call), theirs(INPUTS, **call), TOLERANCE)
        shapes = theirs.compute_output_shape(INPUTS.shape)
        assert ours.compute_output_shape(INPUTS.shape) == shapes

    @each_kind
    @pytest.mark.parametrize("go_backwards", [False, True], ids=["forwards", "backwards"])
    def test_stateful(self, kind, go_backwards):
        ours, theirs = both(kind, stateful=True, return_sequences=True, go_backwards=go_backwards)
        first = ours(INPUTS)
        assert_all_close(first, theirs(INPUTS), TOLERANCE)
        second = ours(INPUTS)
        assert_all_close(second, theirs(INPUTS), TOLERANCE)
        assert np.any(np.abs(first - second) > 1e-3)
        ours.reset_state()
        assert_all_close(ours(INPUTS), first, TOLERANCE)

    @pytest.mark.parametrize("reset_after", [True, False])
    def test_gru_reset_after(self, reset_after):
        options = {"reset_after": reset_after, "bias_initializer": "random_normal", "return_sequences": True}
        ours, theirs = both("gru", **options)
        assert_all_close(ours(INPUTS, mask=MASK), theirs(INPUTS, mask=MASK), TOLERANCE)
        assert ours.cell.bias.shape == ((2, 3 * UNITS) if reset_after else (3 * UNITS,))

    @each_kind
    def test_initial_weights_are_of_the_same_kind(self, kind):
        ours, theirs = built(LAYERS[kind](UNITS)), built(KERAS_LAYERS[kind](UNITS))
        np.testing.assert_array_equal(
            ours.cell.bias.mu, theirs.get_weights()[2]
        )  # The LSTM's: one for the forget gate.
        kernel = ours.cell.recurrent_kernel.mu.numpy()  # Orthogonal rows.
        np.testing.assert_allclose(kernel @ kernel.T, np.eye(UNITS), atol=1e-5)

    @pytest.mark.parametrize("unit_forget_bias", [True, False])
    def test_unit_forget_bias(self, unit_forget_bias):
        layer = built(VariationalLSTM(UNITS, bias_initializer="ones", unit_forget_bias=unit_forget_bias))
        np.testing.assert_array_equal(layer.cell.bias.mu, np.ones(4 * UNITS))
        layer = built(VariationalLSTM(UNITS, unit_forget_bias=unit_forget_bias))
        np.testing.assert_array_equal(
            np.reshape(layer.cell.bias.mu, (4, UNITS))[:, 0], [0, float(unit_forget_bias), 0, 0]
        )

    @each_kind
    def test_cell_steps_like_keras(self, kind):
        cell, theirs = CELLS[kind](UNITS), KERAS_CELLS[kind](UNITS)
        cell.build((BATCH, FEATURES)), theirs.build((BATCH, FEATURES))
        theirs.set_weights([w.mu.numpy() for w in (cell.kernel, cell.recurrent_kernel, cell.bias)])
        states = STATES[: STATE_COUNT[kind]]
        assert_all_close(cell(INPUTS[:, 0], states), theirs(INPUTS[:, 0], states), TOLERANCE)
        assert_all_close(cell.get_initial_state(2), theirs.get_initial_state(2), TOLERANCE)

    @each_kind
    def test_inputs_of_another_rank_are_refused(self, kind):
        with pytest.raises(ValueError, match="expected ndim=3"):
            built(LAYERS[kind](UNITS))(INPUTS[:, 0])
