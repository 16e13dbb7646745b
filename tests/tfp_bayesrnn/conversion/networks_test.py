"""Conversion of trained Keras networks, layer by layer, against those networks themselves."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from conversion_models import (
    ROWS,
    STEPS,
    TOLERANCE,
    UNITS,
    VOCABULARY,
    assert_round_trip,
    assert_same,
    configs,
    converted,
    features,
    ids,
    language_model,
    scramble,
    sequential,
    wrap,
)

from tfp_bayesrnn import (
    BayesianModel,
    VariationalDense,
    VariationalGRU,
    VariationalLSTM,
    to_deterministic,
)

layers = keras.layers


@pytest.fixture(autouse=True)
def _seed():
    keras.utils.set_random_seed(5)


DENSE = {
    "plain": layers.Dense(UNITS),
    "no bias": layers.Dense(UNITS, use_bias=False),
    "activation": layers.Dense(UNITS, activation="gelu"),
    "function": layers.Dense(UNITS, activation=lambda x: tf.nn.relu(x) - 0.1 * x),
    "float64": layers.Dense(UNITS, dtype="float64"),
}

RECURRENT = {
    "plain": {},
    "sequences": {"return_sequences": True},
    "states": {"return_sequences": True, "return_state": True},
    "backwards": {"return_sequences": True, "go_backwards": True},
    "activations": {"activation": "relu", "recurrent_activation": "hard_sigmoid"},
    "no bias": {"use_bias": False},
    "unroll": {"unroll": True, "return_sequences": True},
    "dropout": {"dropout": 0.3, "recurrent_dropout": 0.2, "seed": 7},
}


class TestEveryLayerAndOption:
    @pytest.mark.parametrize("case", DENSE)
    def test_dense(self, case):
        config = DENSE[case].get_config() if case != "function" else None
        layer = DENSE[case] if config is None else layers.Dense.from_config(config)
        assert_round_trip(sequential(layer), features())

    @pytest.mark.slow(every=3)
    @pytest.mark.parametrize("case", RECURRENT)
    @pytest.mark.parametrize("kind", [layers.LSTM, layers.GRU])
    def test_recurrent(self, kind, case):
        layer = kind(UNITS, name="rnn", **RECURRENT[case])
        inputs = keras.Input((STEPS, 4))
        model = scramble(keras.Model(inputs, layer(inputs)))
        bayesian, plain = assert_round_trip(model, features())
        assert configs(plain) == configs(model)
        ours = bayesian.network.get_layer("rnn").get_config()
        for option, value in RECURRENT[case].items():
            assert ours[option] == value

    @pytest.mark.parametrize("reset_after", [True, False])
    def test_reset_of_gru(self, reset_after):
        model = sequential(layers.GRU(UNITS, reset_after=reset_after))
        bayesian, _ = assert_round_trip(model, features())
        assert bayesian.network.layers[0].cell.reset_after is reset_after

    def test_unit_forget_bias_is_carried_and_not_applied_again(self):
        for unit_forget_bias in (True, False):
            model = sequential(layers.LSTM(UNITS, unit_forget_bias=unit_forget_bias))
            bayesian, plain = assert_round_trip(model, features())
            assert bayesian.network.layers[0].cell.unit_forget_bias is unit_forget_bias
            assert plain.layers[0].unit_forget_bias is unit_forget_bias

    @pytest.mark.parametrize("mask_zero", [True, False])
    def test_embedding_and_mask(self, mask_zero):
        assert_round_trip(language_model(mask_zero=mask_zero), ids())

    def test_masked_steps_can_be_zero(self):
        model = sequential(
            layers.Embedding(VOCABULARY, 4, mask_zero=True),
            layers.LSTM(UNITS, return_sequences=True, zero_output_for_mask=True),
            shape=(None,),
            dtype="int32",
        )
        bayesian, _ = assert_round_trip(model, ids())
        np.testing.assert_array_equal(bayesian(ids())[0, -2:], 0.0)

    def test_stateful_with_the_state_it_has(self):
        inputs = keras.Input(batch_shape=(ROWS, STEPS, 4))
        outputs = layers.LSTM(UNITS, stateful=True)(inputs)
        model = scramble(keras.Model(inputs, outputs))
        model(features(seed=3))
        bayesian = converted(model)
        plain = to_deterministic(bayesian)
        for seed in (4, 5):
            expected = model(features(seed=seed))
            assert_same(bayesian(features(seed=seed)), expected)
            assert_same(plain(features(seed=seed)), expected)

    @pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16", "float64"])
    def test_dtype_policies(self, policy):
        model = scramble(
            keras.Sequential(
                [
                    keras.Input((None,), dtype="int32"),
                    layers.Embedding(VOCABULARY, 4, dtype=policy),
                    layers.GRU(UNITS, return_sequences=True, dtype=policy),
                    layers.Dense(2, dtype=policy),
                ]
            )
        )
        # Half precision keeps 8 or 11 bits, and the two kinds round at other places; weights are float32.
        tolerance = {"mixed_bfloat16": 0.05, "mixed_float16": 0.01, "float64": TOLERANCE}[policy]
        bayesian, plain = assert_round_trip(model, ids(), tolerance)
        assert [layer.dtype_policy.name for layer in bayesian.network.layers] == [policy] * 3
        assert [layer.dtype_policy.name for layer in plain.layers] == [policy] * 3
        assert all(weight.mu.dtype == "float32" for weight in bayesian.posterior.weights)

    def test_activity_regularizer_stays(self):
        model = sequential(layers.Dense(UNITS, activity_regularizer=keras.regularizers.L2(0.1)))
        bayesian = converted(model)
        model(features())
        bayesian(features())
        assert_same(bayesian.losses, model.losses)
        assert model.losses[0] > 0.0


class TestBidirectional:
    @pytest.mark.slow(every=3)
    @pytest.mark.parametrize(
        ("merge_mode", "return_sequences"),
        [("concat", True), ("sum", True), ("mul", False), ("ave", False), (None, True), (None, False)],
    )
    def test_merge_modes(self, merge_mode, return_sequences):
        inputs = keras.Input((None, 4))
        outputs = wrap(merge_mode, return_sequences=return_sequences)(inputs)
        bayesian, plain = assert_round_trip(scramble(keras.Model(inputs, outputs)), features())
        both = bayesian.network.get_layer("both")
        assert type(both) is layers.Bidirectional
        assert [type(both.forward_layer), type(both.backward_layer)] == [VariationalLSTM] * 2
        assert type(plain.get_layer("both").forward_layer) is layers.LSTM

    def test_states_and_masks(self):
        tokens = keras.Input((None,), dtype="int32")
        vectors = layers.Embedding(VOCABULARY, 4, mask_zero=True)(tokens)
        outputs = wrap(kind=layers.GRU, return_sequences=True, return_state=True)(vectors)
        assert_round_trip(scramble(keras.Model(tokens, outputs)), ids())

    def test_directions_of_other_options(self):
        layer = layers.Bidirectional(
            layers.LSTM(UNITS, name="there"),
            backward_layer=layers.GRU(2, go_backwards=True, activation="relu", name="back"),
        )
        bayesian, _ = assert_round_trip(sequential(layer), features())
        assert type(bayesian.network.layers[0].backward_layer) is VariationalGRU

    def test_one_frozen_direction_stays_deterministic(self):
        model = sequential(wrap())
        model.layers[0].backward_layer.trainable = False
        bayesian, _ = assert_round_trip(model, features())
        both = bayesian.network.layers[0]
        assert type(both.forward_layer) is VariationalLSTM
        assert type(both.backward_layer) is layers.LSTM
        assert not both.backward_layer.trainable

    def test_directions_have_weights_and_draws_of_their_own(self):
        bayesian = converted(sequential(wrap(return_sequences=True)), initial_scale=0.3)
        assert len(bayesian.posterior.variational) == 6
        draw = bayesian.posterior.sample(1)
        kernels = [
            draw.epsilons[bayesian.network.layers[0].forward_layer.cell.kernel],
            draw.epsilons[bayesian.network.layers[0].backward_layer.cell.kernel],
        ]
        assert not np.allclose(*kernels)

    @pytest.mark.slow(but=["sum-False", "mul-False"])
    @pytest.mark.parametrize(("merge_mode", "compiled"), [("concat", True), ("sum", False), ("mul", False)])
    def test_variational_layers_train_in_a_wrapper(self, merge_mode, compiled):
        network = keras.Sequential(
            [layers.Bidirectional(VariationalLSTM(UNITS), merge_mode=merge_mode), VariationalDense(2)]
        )
        model = BayesianModel(network, training_rows=ROWS)
        model.build((None, None, 4))
        assert len(model.posterior.variational) == 6 + 1
        model.compile(keras.optimizers.Adam(0.01), run_eagerly=not compiled)
        history = model.fit(features(), np.array([0, 1, 0, 1]), batch_size=ROWS, verbose=0)
        assert np.isfinite(history.history["loss"]).all()
        assert_same(to_deterministic(model)(features()), model(features()))

    def test_one_wrapper_used_twice_has_one_kl(self):
        layer = layers.Bidirectional(VariationalLSTM(4, return_sequences=True), merge_mode="ave")
        inputs = keras.Input((None, 4))
        model = BayesianModel(keras.Model(inputs, layer(layer(inputs))), training_rows=1)
        once = keras.Model(inputs, layer(inputs))
        posterior = BayesianModel(once, training_rows=1).posterior
        draw = posterior.sample(2)
        assert len(model.posterior.weights) == 6
        assert_same(model.posterior.kl(model.posterior.sample(2)), posterior.kl(draw), 0.0)


def two_towers():
    """An encoder used twice, a shared Dense in it and outside it, operations that are no layers."""
    shared = layers.Dense(UNITS, activation="tanh", name="shared")
    tokens = keras.Input((None,), dtype="int32", name="tokens")
    vectors = layers.Embedding(VOCABULARY, 4, name="embedding")(tokens)
    encoded = shared(layers.LSTM(UNITS, name="lstm")(vectors))
    encoder = keras.Model(tokens, encoded, name="encoder")
    left = keras.Input((None,), dtype="int32", name="left")
    right = keras.Input((None,), dtype="int32", name="right")
    difference = keras.ops.abs(encoder(left) - encoder(right)) * 2.0
    head = keras.Sequential([keras.Input((UNITS,)), layers.Dense(2, name="out")], name="head")
    outputs = {"label": head(shared(difference)), "distance": difference}
    return scramble(keras.Model({"left": left, "right": right}, outputs, name="towers"))


class TestStructure:
    def test_nested_networks_and_shared_layers(self):
        model, inputs = two_towers(), {"left": ids(), "right": ids(seed=8)}
        bayesian, plain = assert_round_trip(model, inputs)
        for network in (bayesian.network, plain):
            encoder = network.get_layer("encoder")
            assert encoder.get_layer("shared") is network.get_layer("shared")
            assert network.name == "towers"
        # Embedding, three of the LSTM, two of each Dense: nothing twice.
        assert len(bayesian.posterior.weights) == 1 + 3 + 2 + 2
        assert len(plain.variables) == len(model.variables)
        assert set(configs(plain)) == set(configs(model))

    def test_encoder_and_decoder_hand_on_states(self):
        source, target = (keras.Input((None, 4)) for _ in range(2))
        _, *states = layers.LSTM(UNITS, return_state=True)(source)
        decoded = layers.LSTM(UNITS, return_sequences=True)(target, initial_state=states)
        model = scramble(keras.Model([source, target], layers.Dense(2)(decoded)))
        assert_round_trip(model, [features(), features(seed=9)])

    @pytest.mark.parametrize("steps", [STEPS, None])
    def test_time_distributed(self, steps):
        inner = keras.Sequential([keras.Input((4,)), layers.Dense(UNITS, activation="tanh")])
        model = sequential(
            layers.TimeDistributed(inner), layers.TimeDistributed(layers.Dense(2)), shape=(steps, 4)
        )
        bayesian, plain = assert_round_trip(model, features())
        assert type(bayesian.network.layers[1].layer) is VariationalDense
        assert type(plain.layers[1].layer) is layers.Dense

    def test_a_functional_subclass_without_a_call_of_its_own(self):
        class WithMethods(keras.Model):
            def best(self, inputs):
                return self(inputs)

        inputs = keras.Input((4,))
        model = scramble(WithMethods(inputs, layers.Dense(2)(inputs)))
        assert_round_trip(model, features((ROWS, 4)))

    def test_the_given_model_is_left_alone(self):
        model = language_model()
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
        model.compile("adam", loss, jit_compile=False, run_eagerly=True)
        model.fit(ids(), ids(), verbose=0)
        before, expected = [v.numpy() for v in model.variables], model(ids()).numpy()
        nodes = [len(layer._inbound_nodes) for layer in model.layers]
        bayesian = converted(model)
        assert [len(layer._inbound_nodes) for layer in model.layers] == nodes
        assert not getattr(bayesian.network, "optimizer", None)
        for weight in bayesian.posterior.weights:
            weight.mu.assign(weight.mu + 1.0)
        assert_same([v.numpy() for v in model.variables], before, 0.0)
        plain = to_deterministic(bayesian)
        for variable in plain.variables:
            variable.assign(variable + 1.0)
        assert_same(model(ids()), expected, 0.0)
        (weight,) = [w for w in bayesian.posterior.weights if w.path.endswith("/embeddings")]
        np.testing.assert_allclose(weight.mean(), before[0] + 1.0, rtol=0, atol=0)
