"""Every layer through one conformance harness; and one draw for a forward pass, however it uses a layer."""

import dataclasses
import functools
from collections.abc import Callable

import keras
import numpy as np
import pytest
import tensorflow as tf
from bayes_oracles import mixture_log_prob, normal_kl, normal_log_prob

from tfp_bayesrnn import released
from tfp_bayesrnn.distributions import MeanFieldNormal, NormalPrior, PointMass, ScaleMixturePrior
from tfp_bayesrnn.layers import (
    VariationalDense,
    VariationalEmbedding,
    VariationalGRU,
    VariationalGRUCell,
    VariationalLSTM,
    VariationalLSTMCell,
)
from tfp_bayesrnn.posterior import ambient
from tfp_bayesrnn.posterior.posterior import Posterior

KL_WEIGHT = 0.01

SOME = ["dense over time", "embedding", "lstm", "gru, reset before", "gru cell"]
SLOW = ["embedding", "lstm", "gru cell"]

RNG = np.random.default_rng(0)
VECTORS = RNG.normal(size=(3, 4)).astype(np.float32)
SEQUENCES = RNG.normal(size=(3, 5, 4)).astype(np.float32)
IDS = RNG.integers(0, 6, size=(3, 5))


@dataclasses.dataclass(frozen=True, eq=False)
class Case:
    """A layer, the Keras layer that it is on average, and inputs for both."""

    make: Callable[..., keras.layers.Layer]  # Takes prior, posterior, kl_weight, seed, dtype.
    make_keras: Callable[[], keras.layers.Layer]
    inputs: np.ndarray


def rnn(cell, dtype=None, **kwargs):
    return keras.layers.RNN(cell(3, dtype=dtype, **kwargs), return_sequences=True, dtype=dtype)


CASES = {
    "dense": Case(lambda **kw: VariationalDense(3, **kw), lambda: keras.layers.Dense(3), VECTORS),
    "dense over time": Case(
        lambda **kw: VariationalDense(3, activation="softmax", variational_bias=True, **kw),
        lambda: keras.layers.Dense(3, activation="softmax"),
        SEQUENCES,
    ),
    "dense without bias": Case(
        lambda **kw: VariationalDense(3, activation="relu", use_bias=False, **kw),
        lambda: keras.layers.Dense(3, activation="relu", use_bias=False),
        VECTORS,
    ),
    "embedding": Case(
        lambda **kw: VariationalEmbedding(6, 3, **kw), lambda: keras.layers.Embedding(6, 3), IDS
    ),
    "lstm": Case(
        lambda **kw: VariationalLSTM(3, return_sequences=True, **kw),
        lambda: keras.layers.LSTM(3, return_sequences=True),
        SEQUENCES,
    ),
    "lstm, deterministic bias": Case(
        lambda **kw: VariationalLSTM(3, variational_bias=False, **kw),
        lambda: keras.layers.LSTM(3),
        SEQUENCES,
    ),
    "gru": Case(
        lambda **kw: VariationalGRU(3, return_sequences=True, **kw),
        lambda: keras.layers.GRU(3, return_sequences=True),
        SEQUENCES,
    ),
    "gru, reset before": Case(
        lambda **kw: VariationalGRU(3, reset_after=False, use_bias=False, **kw),
        lambda: keras.layers.GRU(3, reset_after=False, use_bias=False),
        SEQUENCES,
    ),
    "lstm cell": Case(
        lambda **kw: rnn(VariationalLSTMCell, **kw),
        lambda: keras.layers.LSTM(3, return_sequences=True),
        SEQUENCES,
    ),
    "gru cell": Case(
        lambda **kw: rnn(VariationalGRUCell, **kw),
        lambda: keras.layers.GRU(3, return_sequences=True),
        SEQUENCES,
    ),
}

each_case = pytest.mark.parametrize("case", CASES.values(), ids=CASES)
# One of each kind, where a test is slow.
some_cases = pytest.mark.parametrize("case", [CASES[name] for name in SOME], ids=SOME)


@functools.cache
def plain(case):
    """A layer with default arguments, for tests that leave it as it is."""
    return built(case)


def built(case, **kwargs):
    keras.utils.set_random_seed(0)
    layer = case.make(**kwargs)
    layer.build(case.inputs.shape)
    return layer


def run_under(layer, draw, inputs, **kwargs):
    with ambient.under(draw):
        return layer(inputs, **kwargs)


@pytest.fixture
def draws_made(monkeypatch):
    """All draws that are made from here on."""
    made, sample = [], Posterior.sample

    def recorded(posterior, seed):
        made.append(sample(posterior, seed))
        return made[-1]

    monkeypatch.setattr(Posterior, "sample", recorded)
    return made


def described(variable):
    return variable.name, tuple(variable.shape), variable.trainable


class TestConformance:
    @each_case
    def test_mean_is_the_keras_layer_with_the_means_as_weights(self, case):
        ours, theirs = plain(case), case.make_keras()
        theirs.build(case.inputs.shape)
        means = {v.path.split("/")[-2]: v.numpy() for v in ours.trainable_variables if v.name == "mu"}
        theirs.set_weights([means[v.name] for v in theirs.trainable_variables])
        expected = theirs(case.inputs)
        assert tuple(expected.shape) == tuple(ours.compute_output_shape(case.inputs.shape))
        # At inference, and under the mean whatever `training` says. Float32, sums of a dozen terms.
        np.testing.assert_allclose(ours(case.inputs), expected, rtol=1e-5, atol=1e-5)
        under_mean = run_under(ours, Posterior.of(ours).mean(), case.inputs, training=True)
        np.testing.assert_allclose(under_mean, expected, rtol=1e-5, atol=1e-5)
        assert not ours.losses

    @each_case
    def test_symbolic_shapes(self, case):
        inputs = keras.Input((*[None] * (case.inputs.ndim - 2), *case.inputs.shape[-1:]))
        if case.inputs is IDS:
            inputs = keras.Input((None,), dtype="int32")
        outputs = keras.Model(inputs, case.make()(inputs)).output
        expected = case.make_keras()(inputs)
        assert outputs.shape == expected.shape and outputs.dtype == expected.dtype

    @each_case
    def test_config_round_trip(self, case):
        original = built(
            case,
            prior=ScaleMixturePrior(0.5, -2.0, -6.0, "tensor"),
            posterior=MeanFieldNormal((0.1, 0.2)),
            kl_weight=KL_WEIGHT,
            seed=5,
        )
        restored = type(original).from_config(original.get_config())
        assert restored.get_config() == original.get_config()
        restored.build(case.inputs.shape)
        assert sorted(map(described, restored.variables)) == sorted(map(described, original.variables))
        for weight in Posterior.of(restored).weights:
            assert weight.prior.get_config() == ScaleMixturePrior(0.5, -2.0, -6.0, "tensor").get_config()

    @pytest.mark.slow(every=3)
    @each_case
    def test_saved_model_predicts_the_same(self, case, tmp_path):
        keras.utils.set_random_seed(0)
        prior = NormalPrior(0.3, learned=True)
        model = keras.Sequential([case.make(prior=prior, kl_weight=KL_WEIGHT, seed=1)])
        model(case.inputs)
        for variable in model.trainable_variables:  # Away from where a fresh model would be.
            variable.assign_add(tf.fill(variable.shape, 0.1))
        model.save(tmp_path / "model.keras")
        loaded = keras.saving.load_model(tmp_path / "model.keras")
        np.testing.assert_array_equal(loaded(case.inputs), model(case.inputs))
        for seed in range(2):  # All of the posterior and of the prior came along.
            ours, theirs = Posterior.of(model), Posterior.of(loaded)
            draw, loaded_draw = ours.sample(seed), theirs.sample(seed)
            np.testing.assert_array_equal(
                run_under(loaded, loaded_draw, case.inputs), run_under(model, draw, case.inputs)
            )
            np.testing.assert_array_equal(theirs.kl(loaded_draw), ours.kl(draw))

    @pytest.mark.slow(every=3)
    @pytest.mark.parametrize(
        "name, policy",
        [(name, "mixed_bfloat16") for name in CASES] + [(name, "mixed_float16") for name in SOME],
    )
    def test_mixed_precision(self, name, policy):
        case = CASES[name]
        layer, reference = built(case, dtype=policy, kl_weight=KL_WEIGHT), plain(case)
        half = policy.removeprefix("mixed_")
        assert {v.dtype for v in layer.trainable_variables} == {"float32"}
        posterior = Posterior.of(layer)
        draw = posterior.sample(0)
        assert posterior.kl(draw).dtype == tf.float32
        outputs = run_under(layer, draw, case.inputs)
        assert outputs.dtype.name == half
        for training in (True, False):
            assert layer(case.inputs, training=training).dtype.name == half
        layer(case.inputs, training=True)
        assert {loss.dtype for loss in layer.losses} == {tf.float32}
        # The same initial means and the same noise: apart only by the rounding of halves, over five steps.
        expected = run_under(reference, Posterior.of(reference).sample(0), case.inputs)
        np.testing.assert_allclose(
            tf.cast(outputs, tf.float32), expected, rtol=0, atol={"bfloat16": 0.03, "float16": 0.004}[half]
        )

    @pytest.mark.slow(but=["dense over time", "gru cell"])
    @some_cases
    def test_compiled_is_eager_under_one_draw(self, case):
        layer = plain(case)
        posterior = Posterior.of(layer)

        def run(inputs):
            draw = posterior.sample(3)
            return run_under(layer, draw, inputs, training=True), posterior.kl(draw)

        outputs, kl = run(case.inputs)
        compiled_outputs, compiled_kl = tf.function(run, jit_compile=True)(tf.constant(case.inputs))
        np.testing.assert_allclose(compiled_outputs, outputs, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(compiled_kl, kl, rtol=1e-5)

    @each_case
    def test_sampled_outputs_differ_from_draw_to_draw_only(self, case):
        layer = plain(case)
        posterior = Posterior.of(layer)
        first, second = posterior.sample(0), posterior.sample(1)
        outputs = run_under(layer, first, case.inputs)
        np.testing.assert_array_equal(run_under(layer, first, case.inputs, training=True), outputs)
        assert np.any(np.abs(run_under(layer, second, case.inputs) - outputs) > 1e-3)
        assert not layer.losses  # Whoever put the draw in force owns the objective.

    @pytest.mark.slow(every=3)
    @each_case
    def test_training_without_owner_or_kl_weight_is_refused(self, case):
        layer = plain(case)
        with pytest.raises(ValueError, match=r"BayesianModel, or give the\s+layer kl_weight"):
            layer(case.inputs, training=True)
        layer(case.inputs, training=False)  # Inference needs neither.
        other = Posterior.of(built(case)).sample(0)
        with pytest.raises(ValueError, match="every weight of the layers"):  # Nor a draw of others.
            run_under(layer, other, case.inputs, training=True)

    @each_case
    def test_point_mass_trains_like_any_layer(self, case):
        layer = built(case, posterior=PointMass())
        np.testing.assert_array_equal(layer(case.inputs, training=True), layer(case.inputs))
        assert not layer.losses
        assert {v.name for v in layer.trainable_variables} == {"mu"}

    @pytest.mark.slow(every=3)
    @each_case
    def test_alone_it_adds_the_kl_of_the_sample_it_ran_with(self, case, draws_made):
        layer = built(case, kl_weight=KL_WEIGHT, **released.OTHERS)
        outputs = [layer(case.inputs, training=True).numpy() for _ in range(2)]
        assert len(draws_made) == 2
        assert np.any(np.abs(outputs[1] - outputs[0]) > 1e-3)  # Each call has a draw of its own.
        for draw, output in zip(draws_made, outputs, strict=True):
            np.testing.assert_array_equal(run_under(layer, draw, case.inputs), output)
        layer(case.inputs, training=True)
        draw, expected = draws_made[-1], 0.0
        for weight, epsilon in draw.epsilons.items():
            assert epsilon.shape == weight.shape
            value = draw[weight].numpy().astype(np.float64)
            expected += normal_log_prob(value, weight.mu, weight.rho)
            expected -= mixture_log_prob(value, value.ndim, "row")
        assert len(layer.losses) == 1
        # The KL is a difference of sums of some tens of terms.
        np.testing.assert_allclose(layer.losses[0], KL_WEIGHT * expected, rtol=1e-4)

    @pytest.mark.slow(every=3)
    @some_cases
    def test_seed_makes_the_draws_of_a_layer_repeat(self, case):
        def outputs(seed):
            return built(case, kl_weight=KL_WEIGHT, seed=seed)(case.inputs, training=True)

        first = outputs(1)
        np.testing.assert_array_equal(outputs(1), first)
        assert np.any(outputs(2) != first)

    @pytest.mark.slow(every=3)
    @each_case
    def test_gradients_reach_all_variables(self, case):
        layer = built(case, prior=NormalPrior(0.3, learned=True), kl_weight=0.0)
        with tf.GradientTape() as tape:
            outputs = layer(case.inputs, training=True)
            loss = tf.reduce_sum(outputs * RNG.normal(size=outputs.shape))
        likelihood_only = tape.gradient(loss, [v.value for v in layer.trainable_variables])
        for variable, gradient in zip(layer.trainable_variables, likelihood_only, strict=True):
            if variable.name == "prior_log_scale":
                assert gradient is None
            else:
                assert np.any(tf.convert_to_tensor(gradient) != 0.0), variable.path

        layer = built(case, prior=NormalPrior(0.3, learned=True), kl_weight=1.0)
        with tf.GradientTape() as tape:
            layer(case.inputs, training=True)
            loss = tf.add_n(layer.losses)
        variational = [
            v for w in Posterior.of(layer).weights if w.is_variational for v in w.trainable_variables
        ]
        for variable, gradient in zip(
            variational, tape.gradient(loss, [v.value for v in variational]), strict=True
        ):
            assert np.all(gradient != 0.0) or variable.name == "mu", variable.path

    @pytest.mark.slow(but=["lstm"])
    @pytest.mark.parametrize("case", [CASES[name] for name in SLOW], ids=SLOW)
    def test_fit_counts_the_kl_once_and_learns(self, case):
        """Without a step (learning rate 0) the loss is the error plus one KL; with steps it falls."""
        # A sigma of 0.005: the noise hardly moves the error, and the KL is the same for every draw.
        layer = case.make(
            prior=NormalPrior(0.5), posterior=MeanFieldNormal((0.01, 0.01)), kl_weight=KL_WEIGHT
        )
        keras.utils.set_random_seed(0)
        model = keras.Sequential([layer])  # Not built: the first step of `fit` builds it.
        model.compile(keras.optimizers.Adam(0.0), "mse", jit_compile=False)
        targets = np.full(layer.compute_output_shape(case.inputs.shape), 0.2, np.float32)
        (loss,) = model.fit(case.inputs, targets, batch_size=3, verbose=0).history["loss"]
        kl = sum(normal_kl(w.mu, w.rho, 0.5) for w in Posterior.of(model).weights if w.is_variational)
        error = np.mean((model(case.inputs) - targets) ** 2)
        np.testing.assert_allclose(loss, error + KL_WEIGHT * kl, rtol=0, atol=0.02)
        assert KL_WEIGHT * kl > 0.3  # So twice the KL would be far outside that tolerance.

        model.optimizer.learning_rate = 0.1
        losses = model.fit(case.inputs, targets, batch_size=3, epochs=15, verbose=0).history["loss"]
        assert losses[-1] < 0.8 * loss


class TestOneDrawPerForwardPass:
    """A layer that is used twice in one forward pass is still one set of weights, with one KL."""

    @staticmethod
    def shared_dense():
        layer = VariationalDense(4, kl_weight=KL_WEIGHT)
        inputs = keras.Input((4,))
        return keras.Model(inputs, layer(layer(inputs))), VECTORS

    @staticmethod
    def shared_lstm():
        layer = VariationalLSTM(4, return_sequences=True, kl_weight=KL_WEIGHT)
        inputs = keras.Input((5, 4))
        return keras.Model(inputs, layer(layer(inputs))), SEQUENCES

    @staticmethod
    def tied_embedding():
        class Tied(keras.layers.Layer):
            def __init__(self):
                super().__init__()
                self.table = VariationalEmbedding(6, 4, kl_weight=KL_WEIGHT)

            def call(self, ids, training=False):
                return self.table.attend(self.table(ids, training=training), training=training)

        return Tied(), IDS

    @pytest.mark.parametrize("network", ["shared_dense", "shared_lstm", "tied_embedding"])
    def test_one_draw_and_one_kl(self, network, draws_made):
        network, inputs = getattr(self, network)()
        network(inputs)
        outputs = [network(inputs, training=True).numpy() for _ in range(2)]
        losses = network.losses
        assert len(draws_made) == 2 and len(losses) == 1
        for draw, output in zip(draws_made, outputs, strict=True):
            np.testing.assert_array_equal(run_under(network, draw, inputs), output)
        np.testing.assert_allclose(losses[0], KL_WEIGHT * Posterior.of(network).kl(draws_made[1]), rtol=1e-6)

    def test_attend_by_itself_draws_each_time(self, draws_made):
        layer = VariationalEmbedding(6, 4, kl_weight=KL_WEIGHT)
        layer.build()
        first, second = (layer.attend(VECTORS, training=True) for _ in range(2))
        assert len(draws_made) == 2 and np.all(first != second)
        layer(IDS)  # A call that follows is an outermost one: it starts with no losses.
        assert not layer.losses
