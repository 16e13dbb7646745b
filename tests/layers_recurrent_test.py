"""The recurrent layers: one draw and one set of masks for a sequence, and all that Keras's own layers do."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfp_bayesrnn import ops
from tfp_bayesrnn.distributions import MeanFieldNormal, NormalPrior
from tfp_bayesrnn.layers import (
    VariationalDense,
    VariationalGRU,
    VariationalGRUCell,
    VariationalLSTM,
    VariationalLSTMCell,
    recurrent,
)
from tfp_bayesrnn.posterior import Draw, Posterior

KL_WEIGHT = 0.01
BATCH, STEPS, FEATURES, UNITS = 3, 5, 4, 6

RNG = np.random.default_rng(0)
INPUTS = RNG.normal(size=(BATCH, STEPS, FEATURES)).astype(np.float32)
CONSTANT = np.repeat(INPUTS[:, :1], STEPS, axis=1)
STATES = [RNG.normal(size=(BATCH, UNITS)).astype(np.float32) for _ in range(2)]
# Row 0 has holes, row 1 starts late, row 2 is masked throughout.
MASK = np.array([[1, 1, 0, 1, 0], [0, 1, 1, 1, 1], [0, 0, 0, 0, 0]], bool)

LAYERS = {"lstm": VariationalLSTM, "gru": VariationalGRU}
CELLS = {"lstm": VariationalLSTMCell, "gru": VariationalGRUCell}
KERAS_LAYERS = {"lstm": keras.layers.LSTM, "gru": keras.layers.GRU}
KERAS_CELLS = {"lstm": keras.layers.LSTMCell, "gru": keras.layers.GRUCell}
STATE_COUNT = {"lstm": 2, "gru": 1}

# Ways of running a variational recurrence over a sequence, from its kind and the cell's arguments.
WRAPPERS = {
    "layer": lambda kind, **kw: LAYERS[kind](UNITS, return_sequences=True, **kw),
    "RNN": lambda kind, **kw: keras.layers.RNN(CELLS[kind](UNITS, **kw), return_sequences=True),
    "unrolled RNN": lambda kind, **kw: keras.layers.RNN(
        CELLS[kind](UNITS, **kw), return_sequences=True, unroll=True
    ),
    "StackedRNNCells": lambda kind, **kw: keras.layers.RNN(
        keras.layers.StackedRNNCells([CELLS[kind](UNITS, **kw), CELLS[kind](UNITS, **kw)]),
        return_sequences=True,
    ),
    "Bidirectional": lambda kind, **kw: keras.layers.Bidirectional(
        LAYERS[kind](UNITS, return_sequences=True, **kw)
    ),
}

each_kind = pytest.mark.parametrize("kind", LAYERS)
each_wrapper = pytest.mark.parametrize("wrapper", WRAPPERS)


def built(layer, shape=INPUTS.shape):
    keras.utils.set_random_seed(0)
    layer.build(shape)
    return layer


def run_under(layer, draw, *args, **kwargs):
    with draw.in_force():
        return layer(*args, **kwargs)


def cells_of(layer):
    return [cell for cell in layer._flatten_layers() if isinstance(cell, recurrent.VariationalRNNCell)]


def ignore_the_state(layer):
    """Sets the posterior so that no step sees the one before: only the kernels stay noisy."""
    for cell in cells_of(layer):
        for weight in (cell.recurrent_kernel, cell.bias):
            weight.mu.assign(tf.zeros(weight.shape))
            weight.rho.assign(tf.fill(weight.shape, -30.0))  # sigma = 1e-5
        bias = cell.bias.mu.numpy()
        # The gate that lets the old state through, shut: the LSTM's forget gate, the GRU's update gate.
        gate = slice(UNITS, 2 * UNITS) if isinstance(cell, VariationalLSTMCell) else slice(0, UNITS)
        bias[..., gate] = -30.0
        cell.bias.mu.assign(bias)


def spread_over_time(outputs):
    return np.abs(outputs - outputs[:, :1]).max()


class TestOneDrawForAllSteps:
    """A network that ignores its state, on constant inputs, must give the same output at every step."""

    # sigma 0.1 to 0.2 for the kernels: redrawn each step, they would move the outputs by about 0.1.
    posterior = MeanFieldNormal((0.5, 1.0))

    @each_kind
    @pytest.mark.parametrize(
        "wrapper, owner",
        [(wrapper, owner) for wrapper in WRAPPERS for owner in ("kl_weight", "draw in force")]
        + [("RNN", "kl_weight, compiled")],
    )
    def test_weights_are_not_redrawn_over_time(self, wrapper, kind, owner):
        kl_weight = None if owner == "draw in force" else KL_WEIGHT
        layer = built(WRAPPERS[wrapper](kind, posterior=self.posterior, kl_weight=kl_weight))
        ignore_the_state(layer)

        def run(seed):
            if owner == "draw in force":
                return run_under(layer, Posterior.of(layer).sample(seed), CONSTANT, training=True)
            return layer(CONSTANT, training=True)

        if owner.endswith("compiled"):
            run = tf.function(run)
        first, second = run(0).numpy(), run(1).numpy()
        # What is left of the noise in recurrent kernel and bias, sigma 1e-5, over six units.
        assert spread_over_time(first) < 5e-4 and spread_over_time(second) < 5e-4
        assert np.abs(first - second).max() > 0.02  # The next draw is another.

    def test_the_check_sees_weights_that_are_redrawn(self, monkeypatch):
        """What the test above is there to catch, done on purpose."""
        layer = built(WRAPPERS["unrolled RNN"]("lstm", posterior=self.posterior, kl_weight=KL_WEIGHT))
        ignore_the_state(layer)
        seeds = iter(range(100))

        def redraw(cell, training):
            return cell._sequence_weights(Posterior.of(cell).sample(next(seeds)))

        monkeypatch.setattr(recurrent.VariationalRNNCell, "_step_weights", redraw)
        assert spread_over_time(layer(CONSTANT, training=True).numpy()) > 0.02

    @each_kind
    @each_wrapper
    def test_kl_is_added_once_a_call(self, wrapper, kind):
        layer = built(WRAPPERS[wrapper](kind, prior=NormalPrior(0.2), kl_weight=KL_WEIGHT))
        posterior = Posterior.of(layer)
        kl = KL_WEIGHT * posterior.kl(posterior.mean())  # Analytic: the same for every draw.
        for _ in range(2):
            layer(INPUTS, training=True)
            assert len(layer.losses) == len(cells_of(layer))
            np.testing.assert_allclose(tf.add_n(layer.losses), kl, rtol=1e-5)
        layer(INPUTS)
        assert not layer.losses

    @each_kind
    @pytest.mark.parametrize("wrapper", ["layer", "RNN"])
    def test_sample_is_fresh_when_a_state_is_passed(self, wrapper, kind):
        layer = built(WRAPPERS[wrapper](kind, kl_weight=KL_WEIGHT))
        state = STATES[: STATE_COUNT[kind]]
        first, second = (layer(INPUTS, initial_state=state, training=True).numpy() for _ in range(2))
        # At the first step too: the state is the same, so the weights are not.
        assert np.abs(first - second)[:, 0].max() > 1e-3

    @each_kind
    def test_sample_is_fresh_when_stateful(self, kind):
        layer = built(LAYERS[kind](UNITS, return_sequences=True, stateful=True, kl_weight=KL_WEIGHT))
        outputs = []
        for _ in range(2):
            layer.reset_state()
            outputs.append(layer(INPUTS, training=True).numpy())
            assert len(layer.losses) == 1
        assert np.abs(outputs[0] - outputs[1])[:, 0].max() > 1e-3

    @each_kind
    def test_layer_is_the_rnn_of_its_cell_under_a_draw(self, kind):
        """Weights and masks alike: the fast path computes what Keras's loop over steps does."""
        options = {"dropout": 0.3, "recurrent_dropout": 0.4}
        layer, rnn = (built(WRAPPERS[name](kind, **options)) for name in ("layer", "RNN"))
        outputs = [run_under(x, Posterior.of(x).sample(5), INPUTS, mask=MASK).numpy() for x in (layer, rnn)]
        np.testing.assert_allclose(*outputs, rtol=1e-5, atol=1e-5)

    @each_kind
    @each_wrapper
    def test_training_without_owner_or_kl_weight_is_refused(self, wrapper, kind):
        layer = built(WRAPPERS[wrapper](kind))
        with pytest.raises(ValueError, match="kl_weight"):
            layer(INPUTS, training=True)
        layer(INPUTS)

    @each_kind
    @each_wrapper
    def test_gradients_reach_mu_and_rho_of_all_weights(self, wrapper, kind):
        layer = built(WRAPPERS[wrapper](kind, kl_weight=0.0))
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(layer(INPUTS, training=True) ** 2)
        variables = layer.trainable_variables
        assert len(variables) == 6 * len(cells_of(layer))
        for variable, gradient in zip(
            variables, tape.gradient(loss, [v.value for v in variables]), strict=True
        ):
            assert np.all(np.isfinite(gradient)) and np.any(gradient != 0.0), variable.path

    @pytest.mark.parametrize("wrapper", ["RNN", "StackedRNNCells", "Bidirectional"])
    def test_saved_wrapper_predicts_the_same(self, wrapper, tmp_path):
        model = keras.Sequential([keras.Input((STEPS, FEATURES)), WRAPPERS[wrapper]("gru", kl_weight=1.0)])
        model.save(tmp_path / "model.keras")
        loaded = keras.saving.load_model(tmp_path / "model.keras")
        np.testing.assert_array_equal(loaded(INPUTS), model(INPUTS))
        assert {cell.kl_weight for cell in cells_of(loaded)} == {1.0}


def both(kind, **options):
    """Our layer, and Keras's with the means as its weights."""
    ours, theirs = built(LAYERS[kind](UNITS, **options)), KERAS_LAYERS[kind](UNITS, **options)
    theirs.build(INPUTS.shape)
    cell = ours.cell
    weights = [w for w in (cell.kernel, cell.recurrent_kernel, cell.bias) if w is not None]
    theirs.set_weights([w.mu.numpy() for w in weights] + theirs.get_weights()[len(weights) :])
    return ours, theirs


def assert_same(actual, expected):
    actual, expected = tf.nest.flatten(actual), tf.nest.flatten(expected)
    assert len(actual) == len(expected)
    for a, b in zip(actual, expected, strict=True):
        # Float32 over five steps.
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


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

    @each_kind
    @pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
    def test_outputs(self, kind, options):
        ours, theirs = both(kind, **options)
        state = STATES[: STATE_COUNT[kind]]
        for call in ({}, {"mask": MASK}, {"initial_state": state}, {"initial_state": state, "mask": MASK}):
            assert_same(ours(INPUTS, **call), theirs(INPUTS, **call))
        shapes = theirs.compute_output_shape(INPUTS.shape)
        assert ours.compute_output_shape(INPUTS.shape) == shapes

    @each_kind
    @pytest.mark.parametrize("go_backwards", [False, True], ids=["forwards", "backwards"])
    def test_stateful(self, kind, go_backwards):
        ours, theirs = both(kind, stateful=True, return_sequences=True, go_backwards=go_backwards)
        first = ours(INPUTS)
        assert_same(first, theirs(INPUTS))
        second = ours(INPUTS)
        assert_same(second, theirs(INPUTS))
        assert np.any(np.abs(first - second) > 1e-3)
        ours.reset_state()
        assert_same(ours(INPUTS), first)

    @pytest.mark.parametrize("reset_after", [True, False])
    def test_gru_reset_after(self, reset_after):
        options = {"reset_after": reset_after, "bias_initializer": "random_normal", "return_sequences": True}
        ours, theirs = both("gru", **options)
        assert_same(ours(INPUTS, mask=MASK), theirs(INPUTS, mask=MASK))
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
        assert_same(cell(INPUTS[:, 0], states), theirs(INPUTS[:, 0], states))
        assert_same(cell.get_initial_state(2), theirs.get_initial_state(2))

    @each_kind
    def test_inputs_of_another_rank_are_refused(self, kind):
        with pytest.raises(ValueError, match="expected ndim=3"):
            built(LAYERS[kind](UNITS))(INPUTS[:, 0])


class TestCellAlone:
    @each_kind
    def test_training_step_needs_a_draw(self, kind):
        cell = CELLS[kind](UNITS, kl_weight=KL_WEIGHT)
        cell.build((BATCH, FEATURES))
        states = STATES[: STATE_COUNT[kind]]
        with pytest.raises(ValueError, match=r"stepped by itself.*Received: training=True"):
            cell(INPUTS[:, 0], states, training=True)
        draw = Posterior.of(cell).sample(0)
        expected = run_under(cell, draw, INPUTS[:, 0], states)
        assert_same(run_under(cell, draw, INPUTS[:, 0], states, training=True), expected)
        assert np.any(np.abs(cell(INPUTS[:, 0], states)[0] - expected[0]) > 1e-3)

    @each_kind
    def test_nothing_is_held_between_sequences(self, kind):
        """The weights of a finished sequence must not serve what follows it."""
        layer = built(WRAPPERS["RNN"](kind, kl_weight=KL_WEIGHT))
        states = STATES[: STATE_COUNT[kind]]
        before = layer.cell(INPUTS[:, 0], states)
        layer(INPUTS, training=True)
        assert_same(layer.cell(INPUTS[:, 0], states), before)
        assert layer.cell.held is None

    @each_kind
    def test_nothing_is_held_after_a_sequence_that_failed(self, kind):
        layer = built(WRAPPERS["RNN"](kind, kl_weight=KL_WEIGHT))
        states = STATES[: STATE_COUNT[kind]]
        before = layer.cell(INPUTS[:, 0], states)
        with pytest.raises(ValueError):
            layer(INPUTS, initial_state=[state[:, 1:] for state in states], training=True)
        assert_same(layer.cell(INPUTS[:, 0], states), before)


class TestDropout:
    RATES = [{"dropout": 0.5}, {"recurrent_dropout": 0.5}, {"dropout": 0.5, "recurrent_dropout": 0.5}]

    @each_kind
    @pytest.mark.parametrize("wrapper", ["layer", "RNN", "Bidirectional"])
    def test_input_masks_are_tied_over_time(self, wrapper, kind):
        layer = built(WRAPPERS[wrapper](kind, dropout=0.5, kl_weight=KL_WEIGHT))
        ignore_the_state(layer)
        rows = np.repeat(CONSTANT[:1], 8, axis=0)
        outputs = layer(rows, training=True).numpy()
        assert spread_over_time(outputs) < 5e-4
        # Each row has a mask of its own: of eight rows, some differ.
        assert np.abs(outputs - outputs[:1]).max() > 0.02

    @each_kind
    @pytest.mark.parametrize("wrapper", ["layer", "RNN"])
    def test_masks_are_made_once_and_go_where_they_belong(self, wrapper, kind, monkeypatch):
        masks = {
            FEATURES: 2.0 * RNG.integers(0, 2, (BATCH, FEATURES)),
            UNITS: 2.0 * RNG.integers(0, 2, (BATCH, UNITS)),
        }
        asked = []

        def given(shape, rate, seed, dtype):
            asked.append((*np.array(shape), rate))
            return tf.constant(masks[shape[1]], dtype)

        monkeypatch.setattr(recurrent, "dropout_mask", given)
        layer = built(WRAPPERS[wrapper](kind, dropout=0.3, recurrent_dropout=0.4))
        cell, posterior = layer.cell, Posterior.of(layer)
        draw = posterior.sample(0)
        outputs = run_under(layer, draw, INPUTS)
        assert asked == [(BATCH, FEATURES, 0.3), (BATCH, UNITS, 0.4)]
        weights = [draw[w] for w in (cell.kernel, cell.recurrent_kernel, cell.bias)]
        zeros = tf.zeros([BATCH, UNITS])
        states = {"lstm": ops.LSTMState(zeros, zeros), "gru": zeros}[kind]
        inputs = tf.constant(INPUTS * masks[FEATURES][:, None], tf.float32)
        expected, _ = getattr(ops, kind)(
            inputs, states, *weights, recurrent_dropout_mask=tf.constant(masks[UNITS], tf.float32)
        )
        np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-5)

    @each_kind
    @pytest.mark.parametrize("rates", RATES, ids=str)
    def test_the_draw_in_force_decides(self, kind, rates):
        layer = built(WRAPPERS["layer"](kind, **rates))
        posterior = Posterior.of(layer)
        means = {weight: weight.mean() for weight in posterior.weights}
        none = layer(INPUTS)
        for training in (True, False):
            assert_same(run_under(layer, posterior.mean(), INPUTS, training=training), none)
        # The weights of the mean, the masks of a sample.
        first, again, other = (
            run_under(layer, Draw(means, seed=posterior.sample(seed).seed), INPUTS) for seed in (0, 0, 1)
        )
        np.testing.assert_array_equal(first, again)
        assert np.abs(first - none).max() > 1e-3 and np.abs(first - other).max() > 1e-3

    @each_kind
    @pytest.mark.parametrize("rates", RATES, ids=str)
    def test_alone_it_drops_in_training_only(self, kind, rates):
        tiny = MeanFieldNormal((1e-6, 1e-6))  # So that what differs are the masks.
        layer = built(WRAPPERS["layer"](kind, posterior=tiny, kl_weight=0.0, **rates))
        assert_same(layer(INPUTS), layer(INPUTS))
        first, second = layer(INPUTS, training=True), layer(INPUTS, training=True)
        assert np.abs(first - layer(INPUTS)).max() > 0.01 and np.abs(first - second).max() > 0.01


@each_kind
def test_model_losses_hold_one_kl_for_each_layer_that_adds_one(kind):
    prior = NormalPrior(0.2)
    model = keras.Sequential(
        [
            LAYERS[kind](UNITS, return_sequences=True, prior=prior, kl_weight=KL_WEIGHT),
            keras.layers.Bidirectional(LAYERS[kind](UNITS, prior=prior, kl_weight=KL_WEIGHT)),
            VariationalDense(1, prior=prior, kl_weight=KL_WEIGHT),
        ]
    )
    for _ in range(2):
        model(INPUTS, training=True)
        posterior = Posterior.of(model)
        assert len(model.losses) == 4
        np.testing.assert_allclose(
            tf.add_n(model.losses), KL_WEIGHT * posterior.kl(posterior.mean()), rtol=1e-5
        )
