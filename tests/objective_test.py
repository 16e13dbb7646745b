"""The free energy against sums written out by hand and SciPy's densities."""

import keras
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from tfp_bayesrnn import NormalLikelihood, likelihoods, objective

B, T, V = 4, 5, 3

# Sums of at most 60 float32 numbers of size 1: 60 * 2**-24 is 4e-6.
CLOSE = {"rtol": 5e-6}


def elementwise(targets, outputs):
    """A likelihood whose nats are the outputs themselves."""
    del targets
    return outputs


def nll_of(nats, weights=None):
    outputs = tf.constant(nats, tf.float32)
    weights = None if weights is None else tf.constant(weights)
    return objective.negative_log_likelihood(elementwise, tf.zeros(tf.shape(outputs)), outputs, weights)


@pytest.fixture
def nats():
    return np.random.default_rng(0).uniform(0.5, 2.0, (B, T)).astype(np.float32)


class TestNegativeLogLikelihood:
    @pytest.mark.parametrize(
        "shape", [(B,), (B, T), (B, T, 2)], ids=["no time", "time", "further target axis"]
    )
    def test_sums_over_all_axes_but_the_rows_and_averages_over_those(self, shape):
        nats = np.random.default_rng(1).uniform(0.5, 2.0, shape).astype(np.float32)
        nll = nll_of(nats)
        np.testing.assert_allclose(nll.total, nats.sum(), **CLOSE)
        np.testing.assert_allclose(nll.per_row, nats.reshape(B, -1).sum(1).mean(), **CLOSE)
        assert nll.predictions == nats.size

    @pytest.mark.parametrize("dtype", [np.float32, np.bool_, np.int64])
    def test_padding_counts_neither_as_nats_nor_as_predictions(self, nats, dtype):
        lengths = np.array([5, 3, 1, 0])
        weights = (np.arange(T) < lengths[:, None]).astype(dtype)
        nll = nll_of(np.where(weights, nats, 1e6), weights)
        kept = sum(row[:length].sum() for row, length in zip(nats, lengths, strict=True))
        np.testing.assert_allclose(nll.total, kept, **CLOSE)
        # A row of nothing but padding is a row still: the KL's share of it is too.
        np.testing.assert_allclose(nll.per_row, kept / B, **CLOSE)
        assert nll.predictions == lengths.sum()

    def test_weights_of_the_leading_axes_hold_for_all_further_ones(self, nats):
        weights = np.array([1.0, 0.5, 0.0, 2.0], np.float32)
        nll = nll_of(nats, weights)
        np.testing.assert_allclose(nll.total, (nats * weights[:, None]).sum(), **CLOSE)
        np.testing.assert_allclose(nll.predictions, weights.sum() * T, **CLOSE)

    @pytest.mark.parametrize("dtype", [tf.bfloat16, tf.float16])
    def test_is_float32_under_outputs_of_half_precision(self, dtype):
        generator = np.random.default_rng(2)
        logits = tf.cast(generator.normal(size=(B, T, V)), dtype)
        targets = tf.constant(generator.integers(0, V, (B, T)))
        nll = objective.negative_log_likelihood(likelihoods.categorical, targets, logits, None)
        assert {value.dtype for value in nll} == {tf.float32}
        wide = tf.nn.log_softmax(tf.cast(logits, tf.float32))
        expected = -tf.reduce_sum(tf.gather(wide, targets, batch_dims=2))
        # Log-softmax in half precision would be off by 2**-9 (bfloat16) or 2**-12 (float16).
        np.testing.assert_allclose(nll.total, expected, **CLOSE)


class TestFreeEnergy:
    KL, BATCH, WINDOWS, UNROLL = 123.0, 4, 6, 5

    @pytest.fixture
    def epoch(self):
        """The nats of every minibatch of an epoch, [windows, B, T]."""
        return np.random.default_rng(3).uniform(0.5, 2.0, (self.WINDOWS, self.BATCH, self.UNROLL))

    def energy(self, nats, **arguments):
        rows = self.BATCH * self.WINDOWS
        return objective.free_energy(nll_of(nats), tf.constant(self.KL), rows, **arguments)

    def test_one_pass_counts_the_kl_once(self, epoch):
        """Summed over every row of a pass, the loss is the whole data's NLL plus one KL."""
        losses = [float(self.energy(nats).loss) * self.BATCH for nats in epoch]
        np.testing.assert_allclose(sum(losses), epoch.sum() + self.KL, **CLOSE)

    def test_per_token_it_is_the_nll_per_token_and_the_kl_per_training_token(self, epoch):
        """The accounting of every logged figure; off by `unroll` if the loss were a mean over tokens."""
        energy = self.energy(epoch[0])
        tokens = self.BATCH * self.WINDOWS * self.UNROLL
        expected = epoch[0].mean() + self.KL / tokens
        np.testing.assert_allclose(energy.loss / self.UNROLL, expected, **CLOSE)

    def test_kl_weight_scales_the_kl_alone(self, epoch):
        nll, whole = nll_of(epoch[0]).per_row, self.energy(epoch[0])
        tempered = self.energy(epoch[0], kl_weight=0.25)
        np.testing.assert_allclose(tempered.loss - nll, 0.25 * (whole.loss - nll), rtol=1e-5)
        assert tempered.kl == self.KL


class TestLikelihoods:
    """Against SciPy in float64; 1e-5 absolute is some ten roundings of a float32 of size 10."""

    CASES = {
        "categorical": (
            "categorical",
            lambda generator: (generator.integers(0, V, (B, T)), generator.normal(size=(B, T, V)) * 3),
            lambda targets, logits: scipy.stats.multinomial.logpmf(
                np.eye(V)[targets], 1, scipy.special.softmax(logits, -1)
            ),
        ),
        "bernoulli": (
            "bernoulli",
            lambda generator: (generator.integers(0, 2, (B, T)), generator.normal(size=(B, T)) * 3),
            lambda targets, logits: scipy.stats.bernoulli.logpmf(targets, scipy.special.expit(logits)),
        ),
        "normal": (
            NormalLikelihood(0.3),
            lambda generator: (generator.normal(size=(B, T)), generator.normal(size=(B, T))),
            lambda targets, outputs: scipy.stats.norm.logpdf(targets, outputs, 0.3),
        ),
    }

    @pytest.mark.parametrize("case", CASES.values(), ids=CASES)
    def test_is_scipys_density(self, case):
        likelihood, make, log_density = case
        targets, outputs = make(np.random.default_rng(4))
        nats = likelihoods.get(likelihood)(tf.constant(targets), tf.constant(outputs, tf.float32))
        assert nats.dtype == tf.float32
        np.testing.assert_allclose(nats, -log_density(targets, outputs), rtol=1e-5, atol=1e-5)

    @pytest.mark.parametrize("case", CASES.values(), ids=CASES)
    def test_comes_back_from_its_serialised_form(self, case):
        likelihood, make, _ = case
        likelihood = likelihoods.get(likelihood)
        again = likelihoods.get(likelihoods.serialize(likelihood))
        targets, outputs = make(np.random.default_rng(5))
        targets, outputs = tf.constant(targets), tf.constant(outputs, tf.float32)
        np.testing.assert_array_equal(again(targets, outputs), likelihood(targets, outputs))

    def test_a_registered_function_comes_back_too(self):
        registered = keras.saving.register_keras_serializable("objective_test")(elementwise)
        assert likelihoods.get(likelihoods.serialize(registered)) is registered

    def test_extreme_logits_give_finite_nats(self):
        targets, logits = tf.constant([0, 1]), tf.constant([[-200.0, 200.0], [200.0, -200.0]])
        np.testing.assert_allclose(likelihoods.categorical(targets, logits), [400.0, 400.0])
        np.testing.assert_allclose(likelihoods.bernoulli(targets, logits[:, 1]), [200.0, 200.0])

    @pytest.mark.parametrize("name", ["gaussian", "Categorical", ""])
    def test_an_unknown_name_is_an_error_that_names_those_there_are(self, name):
        with pytest.raises(ValueError, match=rf"bernoulli.*categorical.*Received: likelihood='{name}'"):
            likelihoods.get(name)

    @pytest.mark.parametrize("scale", [0.0, -1.0])
    def test_a_scale_must_be_positive(self, scale):
        with pytest.raises(ValueError, match=f"Received: scale={scale}"):
            NormalLikelihood(scale)

    def test_normal_targets_do_not_broadcast(self):
        """[B] against [B, 1] would make B * B predictions."""
        with pytest.raises(ValueError, match=r"Received: targets of shape \(4,\), outputs of shape \(4, 1\)"):
            NormalLikelihood()(tf.zeros([B]), tf.zeros([B, 1]))
