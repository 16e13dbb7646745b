"""The bound of a sharpened posterior on streams, by hand; what evaluation leaves alone."""

import math

import keras
import numpy as np
import pytest
import scipy.special
import scipy.stats
import tensorflow as tf
from evaluation_by_hand import (
    CLOSE,
    IDS,
    RATE,
    SIGMA0,
    STREAM,
    Hand,
    padded,
    sharpened_language_model,
    theta_noise,
)
from small_models import (
    PRIOR,
    assert_identical,
    language_model,
    regression,
    regression_data,
    values,
    windows,
)

from tfp_bayesrnn import (
    Dropout,
    NormalLikelihood,
    PosteriorSharpening,
    VariationalDense,
    noise,
)
from tfp_bayesrnn.model.dynamic_evaluation import sgd
from tfp_bayesrnn.model.evaluation import SharpenedBound, StreamEvaluator
from tfp_bayesrnn.posterior import ambient

X, Y = regression_data()
pytestmark = pytest.mark.usefixtures("eagerly")


class TestBound:
    def test_is_that_of_a_loop_over_the_windows(self):
        model = sharpened_language_model()
        hand = Hand(model, STREAM, seed=7)
        bound = StreamEvaluator(model).sharpened_bound(STREAM, seed=7)
        assert bound.predictions == hand.count == 21
        assert hand.kl > 0.01  # Far above the tolerance.
        np.testing.assert_allclose([bound.nll, bound.kl], [hand.nll, hand.kl], **CLOSE)

    def test_padding_is_seen_by_nothing(self):
        """Other ids in the place of padding, at the end of a row, change no bit."""
        model = sharpened_language_model()
        ids = IDS.copy()
        ids[1, 10:] = (ids[1, 10:] + 1) % 7
        other = padded(windows(ids))
        assert np.any(other[-1][1] != STREAM[-1][1])
        evaluator = StreamEvaluator(model)
        assert evaluator.sharpened_bound(other) == evaluator.sharpened_bound(STREAM)
        without = [data[:2] for data in STREAM]  # The padding counted as predictions.
        assert evaluator.sharpened_bound(without).kl != evaluator.sharpened_bound(STREAM).kl

    def test_depends_on_how_the_stream_is_cut(self):
        """Rows that share a window share theta and its KL; a longer window pays for a longer gradient."""
        model = sharpened_language_model()
        evaluator = StreamEvaluator(model)
        kls = [evaluator.sharpened_bound(windows(IDS, unroll)).kl for unroll in (2, 4, 12)]
        assert min(abs(math.log(kls[0] / kls[1])), abs(math.log(kls[1] / kls[2]))) > 0.1
        apart = [evaluator.sharpened_bound(windows(IDS[row : row + 1])).kl for row in range(2)]
        assert abs(np.mean(apart) - kls[1]) > 0.1 * kls[1]

    def test_the_seed_decides_and_the_models_is_the_default(self):
        model = sharpened_language_model(seed=7)
        evaluator = StreamEvaluator(model)
        bounds = [evaluator.sharpened_bound(STREAM, seed=seed) for seed in (None, 7, 7, 8)]
        assert bounds[0] == bounds[1] == bounds[2]
        assert abs(bounds[3].nll - bounds[0].nll) > 1e-4
        assert StreamEvaluator(model).sharpened_bound(STREAM) == bounds[0]

    def test_every_window_has_noise_of_its_own(self):
        """The same window thrice, as three first windows: the gradient is the same, the score is not."""
        model, (first, *_) = sharpened_language_model(), STREAM
        scores = [
            window.log_probabilities.sum()
            for window in StreamEvaluator(model)._run(
                [first] * 3, model.posterior.mean(), iter, noise.make_seed(0)
            )
        ]
        assert len(set(scores)) == 3

    def test_pays_for_the_targets_it_has_seen(self):
        """theta fits its window better than with the same noise alone; the bound adds what that costs.

        Against the mean, which has no noise, one draw says nothing: the noise is as large as the gain.
        """
        model = sharpened_language_model(sigma0=0.05)
        evaluator = StreamEvaluator(model)
        bound = evaluator.sharpened_bound(STREAM)
        for u in model.sharpening.u:
            u.assign(np.full(u.shape, -50.0))  # eta = sigma0^2 softplus(u): no step, the noise as before.
        without_step = evaluator.sharpened_bound(STREAM)
        assert without_step.kl < 1e-12 < bound.kl and bound.nll < without_step.nll
        assert math.log(bound.perplexity_bound) > bound.nll
        np.testing.assert_allclose(bound.perplexity_bound, math.exp(bound.nll + bound.kl), rtol=1e-12)

    @pytest.mark.parametrize(("nll", "kl"), [(1e4, 0.0), (0.0, 1e4), (500.0, 500.0)])
    def test_overflows_to_infinity(self, nll, kl):
        assert SharpenedBound(nll, kl, 1, 0.0).perplexity_bound == math.inf

    def test_of_a_model_without_sharpening_is_an_error(self):
        with pytest.raises(ValueError, match=r"sharpening=\.\.\."):
            StreamEvaluator(language_model()).sharpened_bound(STREAM)

    def test_with_sigma0_zero_is_the_means_score(self):
        evaluator = StreamEvaluator(language_model(sharpening=PosteriorSharpening(0.0)))
        for rule in (None, sgd(RATE)):
            bound, mean = evaluator.sharpened_bound(STREAM, rule), evaluator.mean(STREAM, rule)
            assert (bound.nll, bound.kl, bound.predictions) == (mean.nll, 0.0, mean.predictions)

    def test_of_a_dropout_network_drops_nothing(self):
        plain, dropout = sharpened_language_model(), sharpened_language_model(layers=[Dropout(0.5)])
        bounds = [StreamEvaluator(model).sharpened_bound(STREAM, sgd(RATE)) for model in (plain, dropout)]
        assert bounds[0] == bounds[1]

    def test_a_graph_gives_the_same(self):
        model = sharpened_language_model()
        eager = StreamEvaluator(model).sharpened_bound(STREAM, sgd(RATE))
        tf.config.run_functions_eagerly(False)
        model.compile(jit_compile=False)
        compiled = StreamEvaluator(model).sharpened_bound(STREAM, sgd(RATE))
        np.testing.assert_allclose(compiled, eager, rtol=1e-4)  # Three windows of SGD, and their rounding.


class TestRowsThatAreIndependent:
    """A network with no state, and data without `is_first`."""

    MINIBATCHES = [(X[:4], Y[:4], np.ones(4, np.float32)), (X[4:], Y[4:], np.array([1.0, 0.0], np.float32))]

    def linear(self, **arguments):
        layer = VariationalDense(1, prior=PRIOR)
        return regression([layer], **arguments)

    @pytest.mark.parametrize("learning_rate", [0.0, 0.02])
    def test_the_bound_and_dynamic_evaluation_by_numpy(self, learning_rate):
        """Linear in its weights, so that every gradient is written down."""
        model = self.linear(sharpening=PosteriorSharpening(SIGMA0))
        kernel, bias = model.network.layers[0].kernel, model.network.layers[0].bias
        totals = {"bound": np.zeros(2), "mean": np.zeros(2)}
        for way in totals:
            w, b = kernel.mu.numpy().astype(np.float64), bias.mu.numpy().astype(np.float64)
            for index, (x, y, weights) in enumerate(self.MINIBATCHES):
                keep = weights[:, np.newaxis]
                theta = w
                if way == "bound":
                    g = x.T @ (keep * (x @ w + b - y)) / 0.25
                    noise_of = theta_noise(model, 5, index)[kernel].numpy()
                    theta = w - SIGMA0**2 * g + SIGMA0 * noise_of
                    totals[way][1] += 0.5 * SIGMA0**2 * np.sum(g**2)
                residuals = keep * (x @ theta + b - y)
                nats = -scipy.stats.norm.logpdf(y, x @ theta + b, 0.5)
                totals[way][0] += np.sum(keep * nats)
                w = w - learning_rate * x.T @ residuals / 0.25 / len(x)
                b = b - learning_rate * residuals.sum() / 0.25 / len(x)
        evaluator = StreamEvaluator(model)
        bound = evaluator.sharpened_bound(self.MINIBATCHES, sgd(learning_rate), seed=5)
        mean = evaluator.mean(self.MINIBATCHES, sgd(learning_rate))
        assert bound.predictions == mean.predictions == 5
        np.testing.assert_allclose([bound.nll, bound.kl], totals["bound"] / 5, **CLOSE)
        np.testing.assert_allclose([mean.nll, 0.0], totals["mean"] / 5, **CLOSE)

    def test_weights_of_rows_count_every_prediction_of_a_row(self):
        """As in training, weights may be of the leading axes alone."""
        model = regression([VariationalDense(2, prior=PRIOR)], sharpening=PosteriorSharpening(SIGMA0))
        targets, weights = np.tile(Y, (1, 2)), np.array([1, 1, 1, 1, 0, 0], np.float32)
        evaluator = StreamEvaluator(model)
        by_row = [(X, targets, weights)]
        by_prediction = [(X, targets, np.tile(weights[:, np.newaxis], (1, 2)))]
        assert evaluator.mean(by_row).predictions == 8
        assert evaluator.mean(by_row) == evaluator.mean(by_prediction)
        assert evaluator.sharpened_bound(by_row) == evaluator.sharpened_bound(by_prediction)
        assert evaluator.mean([*by_row, (X, targets)]).predictions == 20  # Weights need not be in all.


class TestTheBoundIsABound:
    """-log p(y) of the hierarchical model, with theta ~ N(phi, sigma0^2) integrated out."""

    def bounds(self, model, data, n):
        """NLL and KL, in nats for all the data, for each of n seeds: two arrays."""
        tf.config.run_functions_eagerly(False)  # Many times the same function.
        model.compile(jit_compile=False)
        evaluator = StreamEvaluator(model)
        scores = [evaluator.sharpened_bound([data], seed=seed) for seed in range(n)]
        return np.array([(score.predictions * score.nll, score.predictions * score.kl) for score in scores]).T

    @pytest.mark.slow(but=["0.1"])
    @pytest.mark.parametrize("sigma0", [0.02, 0.1, 0.5])
    def test_of_a_linear_model_whose_evidence_is_known(self, sigma0):
        """Its targets are normal. The gap is of the order sigma0^4, what sharpening gains of sigma0^2, so
        at a small sigma0 the bound is all but tight.

        The part of the score that is linear in theta's noise has mean 0 and is most of its scatter: it is
        taken out before the mean is.
        """
        layer = VariationalDense(1, use_bias=False, prior=PRIOR)
        model = regression([layer], likelihood=NormalLikelihood(1.0), sharpening=PosteriorSharpening(sigma0))
        away = np.array([[2.0], [-2.0], [1.0]])  # From the best weights, so g is large.
        layer.kernel.mu.assign(layer.kernel.mu.numpy() + away)
        x, y, w = X.astype(np.float64), Y.astype(np.float64), layer.kernel.mu.numpy().astype(np.float64)
        covariance = np.eye(6) + sigma0**2 * x @ x.T
        exact = -scipy.stats.multivariate_normal.logpdf(y.ravel(), (x @ w).ravel(), covariance)
        plain = -scipy.stats.norm.logpdf(y, x @ w).sum()
        hessian, n = x.T @ x, 100
        g = x.T @ (x @ w - y)
        slope = g - hessian @ (sigma0**2 * g)  # At theta's mean.
        linear = [sigma0 * np.sum(slope * theta_noise(model, s, 0)[layer.kernel].numpy()) for s in range(n)]
        totals = np.sum(self.bounds(model, (X, Y), n), axis=0) - np.array(linear)
        gap, error = totals.mean() - exact, totals.std() / math.sqrt(n)
        assert gap > -4 * error
        if sigma0 == 0.02:
            gain = plain + 0.5 * sigma0**2 * np.trace(hessian) - exact
            assert gain > 20 * error and abs(gap) < 0.05 * gain + 4 * error
        if sigma0 == 0.5:
            assert gap > 4 * error

    @pytest.mark.slow
    def test_of_a_softmax_whose_evidence_is_integrated_by_monte_carlo(self):
        """100,000 values of theta: the evidence is known to a few parts in a thousand."""
        sigma0 = 0.4
        layer = VariationalDense(4, use_bias=False, prior=PRIOR)
        model = regression([layer], likelihood="categorical", sharpening=PosteriorSharpening(sigma0))
        targets = np.array([0, 3, 1, 2, 2, 0], np.int32)
        generator, samples = np.random.default_rng(0), 100_000
        theta = layer.kernel.mu.numpy() + sigma0 * generator.normal(size=(samples, 3, 4))
        log_p = scipy.special.log_softmax(np.einsum("bd,sdk->sbk", X, theta), axis=-1)
        log_p = log_p[:, np.arange(6), targets].sum(axis=1)
        likelihoods = np.exp(log_p)
        evidence = likelihoods.mean()
        evidence_error = likelihoods.std() / math.sqrt(samples) / evidence  # Of its logarithm.
        nlls, kls = self.bounds(model, (X, targets), 600)

        def gap(totals):
            """And its standard error."""
            error = math.hypot(totals.std() / math.sqrt(len(totals)), evidence_error)
            return totals.mean() + math.log(evidence), error

        bound, error = gap(nlls + kls)
        assert bound > -4 * error
        # Not so for the NLL alone, which leaks the targets.
        leaky, error = gap(nlls)
        assert leaky < -4 * error


class Interrupted(Exception):
    """The stream breaks off."""


MODES = {
    "mean": lambda evaluator, data: evaluator.mean(data),
    "mean, dynamic": lambda evaluator, data: evaluator.mean(data, sgd(RATE)),
    "average": lambda evaluator, data: evaluator.average(data, samples=2),
    "bound": lambda evaluator, data: evaluator.sharpened_bound(data),
    "bound, dynamic": lambda evaluator, data: evaluator.sharpened_bound(data, sgd(RATE)),
}


class TestNothingChanges:
    @pytest.fixture(scope="class")
    def trained(self):
        """A model with metrics, slots and states that are not at their start."""
        model = sharpened_language_model(layers=[Dropout(0.2, seed=0)])
        model.compile(keras.optimizers.Adam(0.01), clip_norm=5.0, run_eagerly=True)
        for data in windows(IDS)[:2]:
            model.train_on_batch(*data)
        model.reset_metrics()
        model.train_on_batch(*windows(IDS)[2])
        model.test_on_batch(*windows(IDS)[0])
        return model

    @staticmethod
    def everything(model):
        carried = [*model._carried_train.variables_flat, *model._carried_test.variables_flat]
        optimizers = [*model.optimizer.variables, *model.sharpening.optimizer.variables]
        parts = [*model.variables, *model.metrics_variables, *model.sharpening.u, *optimizers, *carried]
        assert all(np.any(part.numpy()) for part in [*model.sharpening.u, *carried])
        return values(parts)

    @pytest.mark.slow(every=3)
    @pytest.mark.parametrize("interrupted", [False, True], ids=["to the end", "interrupted"])
    @pytest.mark.parametrize("mode", MODES)
    def test_in_a_model_that_is_evaluated(self, trained, mode, interrupted):
        def broken():
            yield STREAM[0]
            yield STREAM[1]
            raise Interrupted

        evaluator, before = StreamEvaluator(trained), self.everything(trained)
        score = MODES[mode](evaluator, STREAM)
        if interrupted:
            with pytest.raises(Interrupted):
                MODES[mode](evaluator, broken())
        assert_identical(self.everything(trained), before)
        assert ambient.draw_in_force() is None
        assert MODES[mode](evaluator, STREAM) == score  # Nor in the evaluator.

    def test_progress_sees_every_window(self):
        seen = []

        def progress(dataset):
            for data in dataset:
                seen.append(data)
                yield data

        StreamEvaluator(sharpened_language_model()).sharpened_bound(STREAM, progress=progress)
        assert len(seen) == len(STREAM)
