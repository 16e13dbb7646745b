"""The recurrent layers: one draw, and one set of dropout masks, for a whole sequence."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from rnn_oracles import BATCH, FEATURES, MASK, STEPS, UNITS, assert_all_close

from tfp_bayesrnn import ops
from tfp_bayesrnn.distributions import MeanFieldNormal, NormalPrior
from tfp_bayesrnn.layers import (
    VariationalDense,
    VariationalGRU,
    VariationalGRUCell,
    VariationalLSTM,
    VariationalLSTMCell,
    VariationalMGU,
    VariationalMGUCell,
    cell,
)
from tfp_bayesrnn.posterior import ambient
from tfp_bayesrnn.posterior.posterior import Draw, Posterior

KL_WEIGHT = 0.01
TOLERANCE = 1e-5  # Of float32 over five steps.

RNG = np.random.default_rng(0)
INPUTS = RNG.normal(size=(BATCH, STEPS, FEATURES)).astype(np.float32)
CONSTANT = np.repeat(INPUTS[:, :1], STEPS, axis=1)
STATES = [RNG.normal(size=(BATCH, UNITS)).astype(np.float32) for _ in range(2)]

LAYERS = {"lstm": VariationalLSTM, "gru": VariationalGRU, "mgu": VariationalMGU}
CELLS = {"lstm": VariationalLSTMCell, "gru": VariationalGRUCell, "mgu": VariationalMGUCell}
STATE_COUNT = {"lstm": 2, "gru": 1, "mgu": 1}
# Where each has the bias of the gate that decides about the old state, and what keeps the old state out.
GATES = {
    VariationalLSTMCell: (slice(UNITS, 2 * UNITS), -30.0),
    VariationalGRUCell: (slice(0, UNITS), -30.0),
    VariationalMGUCell: (slice(0, UNITS), 30.0),
}

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
    with ambient.under(draw):
        return layer(*args, **kwargs)


def cells_of(layer):
    return [each for each in layer._flatten_layers() if isinstance(each, cell.VariationalRNNCell)]


def ignore_the_state(layer):
    """Sets the posterior so that no step sees the one before: only the kernels stay noisy."""
    for each in cells_of(layer):
        for weight in (each.recurrent_kernel, each.bias):
            weight.mu.assign(tf.zeros(weight.shape))
            weight.rho.assign(tf.fill(weight.shape, -30.0))  # sigma = 1e-5
        bias = each.bias.mu.numpy()
        gate, shut = GATES[type(each)]
        bias[..., gate] = shut
        each.bias.mu.assign(bias)


def spread_over_time(outputs):
    return np.abs(outputs - outputs[:, :1]).max()


class TestOneDrawForAllSteps:
    """A network that ignores its state, on constant inputs, must give the same output at every step."""

    # sigma 0.1 to 0.2 for the kernels: redrawn each step, they would move the outputs by about 0.1.
    posterior = MeanFieldNormal((0.5, 1.0))

    @pytest.mark.slow(every=3)
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

        def redraw(each, training):
            return each._sequence_weights(Posterior.of(each).sample(next(seeds)))

        monkeypatch.setattr(cell.VariationalRNNCell, "_step_weights", redraw)
        assert spread_over_time(layer(CONSTANT, training=True).numpy()) > 0.02

    @pytest.mark.slow(every=3)
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

    @pytest.mark.slow(every=3)
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

    @pytest.mark.slow(every=3)
    @each_kind
    @pytest.mark.parametrize("wrapper", ["StackedRNNCells", "Bidirectional"])
    def test_training_without_owner_or_kl_weight_is_refused(self, wrapper, kind):
        layer = built(WRAPPERS[wrapper](kind))
        with pytest.raises(ValueError, match="kl_weight"):
            layer(INPUTS, training=True)
        layer(INPUTS)

    @pytest.mark.slow(every=3)
    @each_kind
    @pytest.mark.parametrize("wrapper", ["layer", "StackedRNNCells", "Bidirectional"])
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
        assert {float(each.kl_weight) for each in cells_of(loaded)} == {1.0}


class TestCellAlone:
    @each_kind
    def test_training_step_needs_a_draw(self, kind):
        alone = CELLS[kind](UNITS, kl_weight=KL_WEIGHT)
        alone.build((BATCH, FEATURES))
        states = STATES[: STATE_COUNT[kind]]
        with pytest.raises(ValueError, match=r"stepped by itself.*Received: training=True"):
            alone(INPUTS[:, 0], states, training=True)
        draw = Posterior.of(alone).sample(0)
        expected = run_under(alone, draw, INPUTS[:, 0], states)
        assert_all_close(run_under(alone, draw, INPUTS[:, 0], states, training=True), expected, TOLERANCE)
        assert np.any(np.abs(alone(INPUTS[:, 0], states)[0] - expected[0]) > 1e-3)

    @each_kind
    def test_nothing_is_held_between_sequences(self, kind):
        """The weights of a finished sequence must not serve what follows it."""
        layer = built(WRAPPERS["RNN"](kind, kl_weight=KL_WEIGHT))
        states = STATES[: STATE_COUNT[kind]]
        before = layer.cell(INPUTS[:, 0], states)
        layer(INPUTS, training=True)
        assert_all_close(layer.cell(INPUTS[:, 0], states), before, TOLERANCE)
        assert layer.cell.held is None

    @each_kind
    def test_nothing_is_held_after_a_sequence_that_failed(self, kind):
        layer = built(WRAPPERS["RNN"](kind, kl_weight=KL_WEIGHT))
        states = STATES[: STATE_COUNT[kind]]
        before = layer.cell(INPUTS[:, 0], states)
        with pytest.raises(ValueError):
            layer(INPUTS, initial_state=[state[:, 1:] for state in states], training=True)
        assert_all_close(layer.cell(INPUTS[:, 0], states), before, TOLERANCE)


class TestDropout:
    RATES = [{"dropout": 0.5}, {"recurrent_dropout": 0.5}, {"dropout": 0.5, "recurrent_dropout": 0.5}]

    @pytest.mark.slow(every=3)
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

    @pytest.mark.parametrize("kind", ["lstm", "gru"])  # Those with a kernel of their own.
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

        monkeypatch.setattr(cell, "dropout_mask", given)
        layer = built(WRAPPERS[wrapper](kind, dropout=0.3, recurrent_dropout=0.4))
        draw = Posterior.of(layer).sample(0)
        outputs = run_under(layer, draw, INPUTS)
        assert asked == [(BATCH, FEATURES, 0.3), (BATCH, UNITS, 0.4)]
        weights = [draw[w] for w in (layer.cell.kernel, layer.cell.recurrent_kernel, layer.cell.bias)]
        zeros = tf.zeros([BATCH, UNITS])
        states = {"lstm": ops.LSTMState(zeros, zeros), "gru": zeros}[kind]
        inputs = tf.constant(INPUTS * masks[FEATURES][:, None], tf.float32)
        expected, _ = getattr(ops, kind)(
            inputs, states, *weights, recurrent_dropout_mask=tf.constant(masks[UNITS], tf.float32)
        )
        np.testing.assert_allclose(outputs, expected, rtol=1e-5, atol=1e-5)

    @pytest.mark.slow(every=3)
    @each_kind
    @pytest.mark.parametrize("rates", RATES, ids=str)
    def test_the_draw_in_force_decides(self, kind, rates):
        layer = built(WRAPPERS["layer"](kind, **rates))
        posterior = Posterior.of(layer)
        means = {weight: weight.mean() for weight in posterior.weights}
        none = layer(INPUTS)
        for training in (True, False):
            assert_all_close(run_under(layer, posterior.mean(), INPUTS, training=training), none, TOLERANCE)
        # The weights of the mean, the masks of a sample.
        first, again, other = (
            run_under(layer, Draw(means, seed=posterior.sample(seed).seed), INPUTS) for seed in (0, 0, 1)
        )
        np.testing.assert_array_equal(first, again)
        assert np.abs(first - none).max() > 1e-3 and np.abs(first - other).max() > 1e-3

    @pytest.mark.slow(every=3)
    @each_kind
    @pytest.mark.parametrize("rates", RATES, ids=str)
    def test_alone_it_drops_in_training_only(self, kind, rates):
        tiny = MeanFieldNormal((1e-6, 1e-6))  # So that what differs are the masks.
        layer = built(WRAPPERS["layer"](kind, posterior=tiny, kl_weight=0.0, **rates))
        assert_all_close(layer(INPUTS), layer(INPUTS), TOLERANCE)
        first, second = layer(INPUTS, training=True), layer(INPUTS, training=True)
        assert np.abs(first - layer(INPUTS)).max() > 0.01 and np.abs(first - second).max() > 0.01


@pytest.mark.slow
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
