"""What is particular to the dense, embedding and dropout layers; and bad arguments of all layers."""

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
from tfp_bayesrnn.posterior import ambient
from tfp_bayesrnn.posterior.posterior import Posterior

RNG = np.random.default_rng(0)
VECTORS = RNG.normal(size=(3, 4)).astype(np.float32)
SEQUENCES = RNG.normal(size=(3, 5, 4)).astype(np.float32)
IDS = RNG.integers(0, 6, size=(3, 5))


class TestDense:
    def test_inputs_of_another_width_are_refused(self):
        layer = VariationalDense(3)
        layer(VECTORS)
        with pytest.raises(ValueError, match="expected axis -1 of input shape to have value 4"):
            layer(VECTORS[:, :2])

    def test_batch_and_time_may_be_unknown_when_tracing(self):
        layer = VariationalDense(3)
        layer.build((None, None, 4))
        traced = tf.function(layer, input_signature=[tf.TensorSpec([None, None, 4])])
        assert traced.get_concrete_function().structured_outputs.shape.as_list() == [None, None, 3]
        np.testing.assert_allclose(traced(SEQUENCES), layer(SEQUENCES), rtol=1e-6, atol=1e-6)

    def test_bias_is_deterministic_unless_asked(self):
        for variational in (False, True):
            layer = VariationalDense(3, variational_bias=variational)
            layer.build((None, 4))
            assert layer.kernel.is_variational and layer.bias.is_variational == variational


class TestEmbedding:
    def test_attend_is_the_transposed_table(self):
        layer = VariationalEmbedding(6, 4)
        layer.build()
        draw = Posterior.of(layer).sample(0)
        with ambient.under(draw):
            logits = layer.attend(SEQUENCES)
        np.testing.assert_allclose(logits, SEQUENCES @ draw[layer.embeddings].numpy().T, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(
            layer.attend(SEQUENCES), SEQUENCES @ layer.embeddings.mu.numpy().T, rtol=1e-5, atol=1e-5
        )

    def test_attend_adds_its_bias_which_has_no_distribution(self):
        layer = VariationalEmbedding(6, 4, attend_bias=True)
        layer.build()
        assert [weight.is_variational for weight in (layer.embeddings, layer.bias)] == [True, False]
        plain = layer.attend(SEQUENCES)
        layer.bias.mu.assign(np.arange(6.0))
        with ambient.under(Posterior.of(layer).mean()):
            np.testing.assert_allclose(layer.attend(SEQUENCES), plain + np.arange(6.0), rtol=1e-5)
        assert VariationalEmbedding.from_config(layer.get_config()).attend_bias

    def test_mask_zero_masks_the_layers_that_follow(self):
        ids = np.array([[1, 2, 0, 0], [3, 0, 0, 0]])
        layers = [VariationalEmbedding(6, 4, mask_zero=True), VariationalLSTM(3)]
        model = keras.Sequential(layers)
        whole = model(ids)
        np.testing.assert_allclose(whole[:1], model(ids[:1, :2]), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(whole[1:], model(ids[1:, :1]), rtol=1e-5, atol=1e-6)
        assert VariationalEmbedding(6, 4).compute_mask(ids) is None

    def test_ids_are_not_rounded_in_half_precision(self):
        layer = VariationalEmbedding(1000, 2, dtype="mixed_bfloat16")  # bfloat16 holds integers up to 256.
        table = np.arange(2000.0, dtype=np.float32).reshape(1000, 2)
        layer.build()
        layer.embeddings.mu.assign(table)
        np.testing.assert_array_equal(layer(np.array([999.0])), tf.cast(table[999:], tf.bfloat16))


class TestDropout:
    ones = np.ones((200, 5, 4), np.float32)

    def test_without_a_draw_it_is_dropout_in_training_only(self):
        layer = Dropout(0.25, seed=1)
        np.testing.assert_array_equal(layer(self.ones), self.ones)
        outputs = layer(self.ones, training=True).numpy()
        np.testing.assert_allclose(np.unique(outputs), [0.0, 1 / 0.75])
        # Five standard errors of a rate over 4000.
        assert abs(np.mean(outputs == 0) - 0.25) < 5 * np.sqrt(0.25 * 0.75 / 4000)
        assert np.any(layer(self.ones, training=True) != outputs)

    @pytest.mark.parametrize("training", [True, False])
    def test_the_draw_in_force_decides(self, training):
        layers = [Dropout(0.5), Dropout(0.5)]
        posterior = Posterior([])

        def run(draw):
            with ambient.under(draw):
                return [layer(self.ones, training=training).numpy() for layer in layers]

        for output in run(posterior.mean()):
            np.testing.assert_array_equal(output, self.ones)
        first, again, other = (run(posterior.sample(seed)) for seed in (0, 0, 1))
        np.testing.assert_array_equal(first, again)
        assert np.any(first[0] != other[0]) and np.any(first[0] != first[1])

    @pytest.mark.parametrize(
        "noise_shape, shared_axes",
        [((None, 1, None), (1,)), ((1, None, 4), (0,)), ((None, 1, 1), (1, 2))],
        ids=["over time", "over rows", "over time and features"],
    )
    def test_noise_shape_shares_a_mask(self, noise_shape, shared_axes):
        outputs = Dropout(0.5, noise_shape=noise_shape)(self.ones, training=True).numpy()
        for axis in range(3):
            tied = np.all(outputs == np.take(outputs, [0], axis))
            assert tied == (axis in shared_axes)

    @pytest.mark.parametrize("mode", ["graph", "xla"])
    def test_compiled_is_eager(self, mode):
        layer = Dropout(0.5, noise_shape=(None, 1, None))

        def run():
            with ambient.under(Posterior([]).sample(0)):
                return layer(tf.constant(self.ones))

        np.testing.assert_array_equal(tf.function(run, jit_compile=mode == "xla")(), run())

    @pytest.mark.parametrize("policy", ["mixed_bfloat16", "mixed_float16", "float32"])
    def test_dtype_is_kept(self, policy):
        layer = Dropout(0.5, dtype=policy)
        assert layer(self.ones, training=True).dtype == layer.compute_dtype
        assert layer.compute_output_shape((3, 4)) == (3, 4)

    def test_rate_zero_drops_nothing(self):
        np.testing.assert_array_equal(Dropout(0.0)(self.ones, training=True), self.ones)

    def test_saved_model_and_config(self, tmp_path):
        original = Dropout(0.5, noise_shape=(None, 1, None), seed=3)
        assert Dropout.from_config(original.get_config()).get_config() == original.get_config()
        model = keras.Sequential([keras.Input((5, 4)), original])
        model.save(tmp_path / "model.keras")
        loaded = keras.saving.load_model(tmp_path / "model.keras")
        with ambient.under(Posterior([]).sample(0)):
            expected = model(self.ones)
        with ambient.under(Posterior([]).sample(0)):
            np.testing.assert_array_equal(loaded(self.ones), expected)
        assert np.any(expected == 0)


@pytest.mark.parametrize(
    "make, message",
    [
        pytest.param(lambda: Dropout(1.0), "Received: rate=1.0", id="dropout rate"),
        pytest.param(lambda: VariationalDense(3, kl_weight=-1.0), "Received: kl_weight=-1.0", id="kl_weight"),
        pytest.param(lambda: VariationalDense(3, prior="row"), "Received: prior='row'", id="prior"),
        pytest.param(lambda: VariationalDense(3, posterior="normal"), "Received: posterior=", id="posterior"),
        pytest.param(lambda: VariationalDense(0), "Received: units=0", id="dense units"),
        pytest.param(lambda: VariationalEmbedding(0, 3), "Received: input_dim=0", id="vocabulary"),
        pytest.param(lambda: VariationalEmbedding(3, -1), "Received: .*output_dim=-1", id="vector size"),
        pytest.param(lambda: VariationalLSTM(0), "Received: units=0", id="lstm units"),
        pytest.param(lambda: VariationalGRU(3, dropout=1.0), "Received: dropout=1.0", id="rnn dropout"),
        pytest.param(
            lambda: VariationalLSTMCell(3, recurrent_dropout=-0.1),
            "Received: recurrent_dropout=-0.1",
            id="recurrent dropout",
        ),
    ],
)
def test_bad_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
