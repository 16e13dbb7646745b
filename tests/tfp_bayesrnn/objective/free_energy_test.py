"""The free energy against sums written out by hand and SciPy's densities."""

import keras
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf

from tfp_bayesrnn import CategoricalLikelihood, NormalLikelihood
from tfp_bayesrnn.objective import free_energy, likelihoods

B, T, V = 4, 5, 3

# Sums of at most 60 float32 numbers of size 1: 60 * 2**-24 is 4e-6.
CLOSE = {"rtol": 5e-6}


def elementwise(targets, outputs):
    """A likelihood whose nats are the outputs themselves."""
    del targets
    return outputs


ELEMENTWISE = likelihoods.get(elementwise)


def nll_of(nats, weights=None):
    outputs = tf.constant(nats, tf.float32)
    weights = None if weights is None else tf.constant(weights)
    return free_energy.negative_log_likelihood(ELEMENTWISE, tf.zeros(tf.shape(outputs)), outputs, weights)


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
        nll = free_energy.negative_log_likelihood(CategoricalLikelihood(), targets, logits, None)
        assert {value.dtype for value in nll} == {tf.float32}
        wide = tf.nn.log_softmax(tf.cast(logits, tf.float32))
        expected = -tf.reduce_sum(tf.gather(wide, targets, batch_dims=2))
        # Log-softmax in half precision would be off by 2**-9 (bfloat16) or 2**-12 (float16).
        np.testing.assert_allclose(nll.total, expected, **CLOSE)


class TestWhatDoesNotCount:
    """Where the weight or the mask is 0 nothing that is there matters, NaN included."""

    LENGTHS = np.array([5, 3, 1, 0])
    KEPT = np.arange(T) < LENGTHS[:, None]
    POISON = {"NaN": np.nan, "infinite": np.inf, "minus one": -1.0}

    def gradient(self, likelihood, targets, outputs, weights, mask, jit):
        @tf.function(jit_compile=jit)
        def function(outputs):
            with tf.GradientTape() as tape:
                tape.watch(outputs)
                one = likelihoods.get(likelihood)
                nll = free_energy.negative_log_likelihood(one, targets, outputs, weights, mask)
            return nll, tape.gradient(nll.total, outputs)

        return function(tf.constant(outputs, tf.float32))

    @pytest.mark.slow(every=3)
    @pytest.mark.parametrize("jit", [False, True])
    @pytest.mark.parametrize("poison", POISON.values(), ids=POISON)
    def test_targets(self, poison, jit):
        generator = np.random.default_rng(6)
        targets, outputs = generator.normal(size=(2, B, T)).astype(np.float32)
        weights = np.float32(self.KEPT) * generator.uniform(0.5, 2.0, (B, T)).astype(np.float32)
        poisoned = tf.constant(np.where(self.KEPT, targets, poison), tf.float32)
        nll, gradient = self.gradient(NormalLikelihood(1.0), poisoned, outputs, weights, None, jit)
        nats = -scipy.stats.norm.logpdf(targets, outputs) * self.KEPT
        np.testing.assert_allclose(nll.total, (nats * weights).sum(), **CLOSE)
        np.testing.assert_allclose(nll.predictions, weights.sum(), **CLOSE)
        np.testing.assert_allclose(nll.nats, nats, rtol=1e-5)
        np.testing.assert_allclose(gradient, weights * (outputs - targets), rtol=1e-5, atol=1e-6)

    def test_labels_that_are_no_classes(self):
        generator = np.random.default_rng(7)
        targets, logits = generator.integers(0, V, (B, T)), generator.normal(size=(B, T, V))
        labels = np.where(self.KEPT, targets, -1)
        nll, gradient = self.gradient(CategoricalLikelihood(), labels, logits, None, self.KEPT, False)
        nats = -np.log(scipy.special.softmax(logits, -1))[np.arange(B)[:, None], np.arange(T), targets]
        np.testing.assert_allclose(nll.total, nats[self.KEPT].sum(), **CLOSE)
        assert nll.predictions == self.KEPT.sum()
        assert not np.any(gradient.numpy()[~self.KEPT]) and np.all(gradient.numpy()[self.KEPT])

    def test_outputs_under_which_the_density_is_infinite(self):
        """Those of a recurrent layer with `zero_output_for_mask`, in a likelihood that takes logarithms."""
        rates = np.where(self.KEPT, 2.0, 0.0)
        nll, gradient = self.gradient(
            lambda targets, rates: rates - targets * tf.math.log(rates),
            np.full((B, T), 3.0, np.float32),
            rates,
            None,
            self.KEPT,
            False,
        )
        np.testing.assert_allclose(nll.total, self.KEPT.sum() * (2.0 - 3.0 * np.log(2.0)), **CLOSE)
        np.testing.assert_allclose(gradient, np.where(self.KEPT, 1.0 - 3.0 / 2.0, 0.0), rtol=1e-6)

    WEIGHTS = {
        "rows": (B,),
        "rows with an axis": (B, 1),
        "time": (B, T),
        "time with an axis": (B, T, 1),
        "one of all times": (B, 1, 1),
    }

    @pytest.mark.parametrize("with_mask", [False, True])
    @pytest.mark.parametrize("shape", WEIGHTS.values(), ids=WEIGHTS)
    def test_weights_and_mask_are_multiplied(self, nats, shape, with_mask):
        weights = np.random.default_rng(8).uniform(0.5, 2.0, shape).astype(np.float32)
        full = np.broadcast_to(weights.reshape(*shape[:2], *[1] * (2 - len(shape))), (B, T))
        mask = self.KEPT if with_mask else None
        kept = full * self.KEPT if with_mask else full
        nll = free_energy.negative_log_likelihood(
            ELEMENTWISE, tf.zeros([B, T]), tf.constant(nats), tf.constant(weights), mask
        )
        np.testing.assert_allclose(nll.total, (kept * nats).sum(), **CLOSE)
        np.testing.assert_allclose(nll.predictions, kept.sum(), **CLOSE)
        np.testing.assert_allclose(nll.per_row, (kept * nats).sum() / B, **CLOSE)

    @pytest.mark.parametrize("shape", [(T,), (B + 1,), (B, T + 1), (B, T, 2)])
    def test_weights_of_another_shape(self, nats, shape):
        with pytest.raises(ValueError, match=r"leading axes\. Received: weights or mask of shape"):
            nll_of(nats, np.ones(shape, np.float32))

    def test_weights_of_other_rows_than_the_mask(self):
        with pytest.raises(ValueError, match=r"Received: weights of shape \(5,\), mask of shape \(4, 5\)"):
            free_energy.product(tf.ones([5]), self.KEPT)

    def test_the_mask_of_keras_s_ignored_class(self):
        generator = np.random.default_rng(9)
        targets, logits = generator.integers(0, V, (B, T)), generator.normal(size=(B, T, V))

        def ignoring(targets, logits):
            return keras.losses.sparse_categorical_crossentropy(
                targets, logits, from_logits=True, ignore_class=0
            )

        nll = free_energy.negative_log_likelihood(likelihoods.get(ignoring), targets, logits, None)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, ignore_class=0)
        assert nll.predictions == np.count_nonzero(targets)
        np.testing.assert_allclose(nll.total / nll.predictions, loss(targets, logits), **CLOSE)


class TestShapes:
    """A likelihood has one number for each target, or is refused: never one for each pair."""

    @staticmethod
    def squares(targets, outputs):
        return 0.5 * tf.square(tf.cast(targets, tf.float32) - outputs)

    LOSSES = {
        "categorical": ("categorical", keras.losses.SparseCategoricalCrossentropy(from_logits=True)),
        "bernoulli": ("bernoulli", keras.losses.BinaryCrossentropy(from_logits=True)),
        "normal": (NormalLikelihood(0.5**0.5), keras.losses.MeanSquaredError()),
    }

    @pytest.mark.slow(every=3)
    @pytest.mark.parametrize(("static", "jit"), [(False, False), (True, False), (True, True)])
    @pytest.mark.parametrize(
        ("name", "targets", "outputs"),
        [
            ("categorical", (B,), (B, V)),
            ("categorical", (B, 1), (B, V)),
            ("categorical", (B, T), (B, T, V)),
            ("categorical", (B, T, 1), (B, T, V)),
            *[
                (name, *shapes)
                for name in ("bernoulli", "normal")
                for shapes in (
                    [(B,), (B,)],
                    [(B,), (B, 1)],
                    [(B, 1), (B,)],
                    [(B, 1), (B, 1)],
                    [(B, T), (B, T)],
                    [(B, T), (B, T, 1)],
                    [(B, T, 1), (B, T)],
                )
            ],
        ],
    )
    def test_the_mean_is_that_of_keras_s_loss(self, name, targets, outputs, static, jit):
        likelihood, loss = self.LOSSES[name]
        generator = np.random.default_rng(10)
        classes = V if name == "categorical" else 2
        targets = generator.integers(0, classes, targets).astype(np.int32)
        outputs = generator.normal(size=outputs).astype(np.float32)
        signature = None
        if not static:
            signature = [
                tf.TensorSpec([None, *one.shape[1:]], tf.as_dtype(one.dtype)) for one in (targets, outputs)
            ]

        @tf.function(input_signature=signature, jit_compile=jit)
        def mean(targets, outputs):
            nll = free_energy.negative_log_likelihood(likelihoods.get(likelihood), targets, outputs, None)
            return nll.total / nll.predictions

        constant = 0.5 * np.log(np.pi) if name == "normal" else 0.0
        expected = loss(targets.astype(np.float32), outputs) + constant
        np.testing.assert_allclose(mean(targets, outputs), expected, rtol=1e-5)

    REFUSED = {
        "classes of half the rows": ("categorical", (B,), (B, T, V)),
        "one-hot classes of another number": ("categorical", (B, V + 1), (B, V)),
        "zeros and ones for each of two": ("bernoulli", (B,), (B, 2)),
        "one number for several outputs": (NormalLikelihood(1.0), (B, 1), (B, 3)),
        "a function of rows and a column": (squares, (B,), (B, 1)),
        "a function of one row and a column": (squares, (1,), (2, 1)),
        "a function that broadcasts its targets": (squares, (B, 1), (B, 3)),
        "a function that broadcasts over rows": (squares, (3,), (B, 3)),
        "a mean": (lambda t, o: tf.reduce_mean(t - o, axis=-1), (B, 3), (B, 3)),
        "a sum over time": (lambda t, o: tf.reduce_sum(t - o, axis=1), (B, T), (B, T)),
        "a scalar": (lambda t, o: tf.reduce_mean(t - o), (B, 1), (B, 1)),
        "a scalar of one row": (lambda t, o: tf.reduce_mean(t - o), (1,), (1,)),
        "nothing": (lambda t, o: None, (B, 1), (B, 1)),
    }

    @pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED)
    def test_another_number_is_refused(self, case):
        likelihood, targets, outputs = case
        with pytest.raises(ValueError, match="Received: targets of shape"):
            free_energy.negative_log_likelihood(
                likelihoods.get(likelihood), tf.zeros(targets), tf.zeros(outputs), None
            )

    @pytest.mark.parametrize("jit", [False, True])
    @pytest.mark.parametrize("likelihood", ["bernoulli", NormalLikelihood(1.0), squares])
    def test_sizes_that_are_not_known_beforehand_do_not_broadcast_either(self, likelihood, jit):
        unknown = tf.TensorSpec([None, None], tf.float32)
        function = tf.function(
            lambda *both: free_energy.negative_log_likelihood(likelihoods.get(likelihood), *both, None).total,
            input_signature=[unknown, unknown],
            jit_compile=jit,
        )
        function(tf.zeros([B, 3]), tf.zeros([B, 3]))
        with pytest.raises(tf.errors.InvalidArgumentError, match="one_number_for_each_target"):
            function(tf.zeros([B, 1]), tf.zeros([B, 3]))

    def test_an_unknown_number_of_rows_is_refused_before_it_is_known(self):
        """As in the graph of `fit`, where the last minibatch may have fewer."""
        signature = [tf.TensorSpec([None], tf.float32), tf.TensorSpec([None, 1], tf.float32)]
        function = tf.function(
            lambda *both: (
                free_energy.negative_log_likelihood(likelihoods.get(self.squares), *both, None).total
            ),
            input_signature=signature,
        )
        with pytest.raises(ValueError, match=r"Received: targets of shape \(None,\)"):
            function.get_concrete_function()

    @pytest.mark.parametrize(("targets", "result"), [((B,), (B, 1)), ((B, 1), (B,)), ((B, T), (B, T, 1))])
    def test_a_function_may_give_an_axis_of_1_more_or_less(self, targets, result):
        nll = free_energy.negative_log_likelihood(
            likelihoods.get(lambda targets, outputs: tf.reshape(outputs, result)),
            tf.zeros(targets),
            tf.ones(result),
            None,
        )
        assert nll.total == nll.predictions == np.prod(targets)

    def test_a_joint_likelihood_has_one_number_for_a_vector(self):
        generator = np.random.default_rng(11)
        targets, outputs = generator.normal(size=(2, B, T, 3)).astype(np.float32)
        likelihood = likelihoods.JointLikelihood(
            lambda targets, outputs: tf.reduce_sum(NormalLikelihood(1.0)(targets, outputs), axis=-1)
        )
        weights = np.arange(T) < np.array([5, 3, 1, 0])[:, None]
        nll = free_energy.negative_log_likelihood(likelihood, targets, outputs, weights)
        nats = -scipy.stats.norm.logpdf(targets, outputs).sum(-1) * weights
        assert nll.nats.shape == (B, T) and nll.predictions == weights.sum()
        np.testing.assert_allclose(nll.total, nats.sum(), **CLOSE)
        with pytest.raises(ValueError, match="Received: axes=0"):
            likelihoods.JointLikelihood(elementwise, 0)
        registered = keras.saving.register_keras_serializable("free_energy_test")(elementwise)
        again = likelihoods.get(likelihoods.serialize(likelihoods.JointLikelihood(registered, 2)))
        assert again.function is registered and again.axes == 2


class TestFreeEnergy:
    KL, BATCH, WINDOWS, UNROLL = 123.0, 4, 6, 5

    @pytest.fixture
    def epoch(self):
        """The nats of every minibatch of an epoch, [windows, B, T]."""
        return np.random.default_rng(3).uniform(0.5, 2.0, (self.WINDOWS, self.BATCH, self.UNROLL))

    def energy(self, nats, **arguments):
        rows = self.BATCH * self.WINDOWS
        return free_energy.free_energy(nll_of(nats), tf.constant(self.KL), rows, **arguments)

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
