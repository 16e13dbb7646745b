"""The bound of a sharpened posterior, and dynamic evaluation, on streams: against loops written by hand."""

import math

import keras
import numpy as np
import pytest
import scipy.special
import scipy.stats
import tensorflow as tf
from small_models import (
    PRIOR,
    assert_identical,
    language_model,
    point_mass_language_model,
    regression,
    regression_data,
    tokens,
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
from tfp_bayesrnn.model import recurrence
from tfp_bayesrnn.model.evaluation import SharpenedBound, StreamEvaluator
from tfp_bayesrnn.posterior import ambient
from tfp_bayesrnn.posterior import posterior as posteriors
from tfp_bayesrnn.posterior.posterior import Draw

X, Y = regression_data()
IDS = tokens()  # 2 rows of 12 predictions.
SIGMA0, RATE = 0.2, 0.3

CLOSE = {"rtol": 1e-5, "atol": 1e-6}  # Float32 log-probabilities, summed in another order.


pytestmark = pytest.mark.usefixtures("eagerly")


def opinionated(model):
    """The model with its weights, small at first, three times as large: nothing is lost in the tolerances."""
    for weight in model.posterior.weights:
        weight.mu.assign(3.0 * weight.mu)
    return model


def sharpened_language_model(sigma0=SIGMA0, **arguments):
    """Its etas are anywhere between a third of sigma0^2 and twice that."""
    model = opinionated(language_model(sharpening=PosteriorSharpening(sigma0), **arguments))
    generator = np.random.default_rng(1)
    for u in model.sharpening.u:
        u.assign(generator.uniform(-1.0, 2.0, u.shape))
    return model


def padded(elements, lengths=(12, 9)):
    """With weights: rows are of these lengths, and what follows is padding."""
    done, cut = 0, []
    for x, targets in elements:
        weights = (np.arange(done, done + targets.shape[1]) < np.array(lengths)[:, None]).astype(np.float32)
        cut.append((x, targets, weights))
        done += targets.shape[1]
    return cut


STREAM = padded(windows(IDS))


def theta_noise(model, seed, window):
    """By weight, of the theta of a window; `seed` is the evaluation's."""
    stream = noise.derive(noise.make_seed(seed), noise.Stream.EVALUATION_SHARPENING, window)
    return posteriors.standard_normals(model.posterior.variational, stream, noise.Stream.SHARPENING)


class Hand:
    """Evaluation of a language model window by window; of the library only the network and the noise."""

    def __init__(self, model, elements, seed=None, learning_rate=0.0):
        """`seed` None: no sharpening."""
        posterior, total, kl, count = model.posterior, 0.0, 0.0, 0
        values = {weight: weight.mu.numpy() for weight in posterior.weights}
        state = [[np.zeros([2, 3], np.float32)] * 2]
        etas = {}
        if seed is not None:
            etas = {
                weight: SIGMA0**2 * np.logaddexp(0.0, u.numpy())
                for weight, u in zip(posterior.variational, model.sharpening.u, strict=True)
            }
        self.nlls, self.kls = [], []
        for index, (x, targets, weights) in enumerate(elements):
            state = [[np.where(x["is_first"][:, None], 0.0, part) for part in state[0]]]
            batch = (model, x["inputs"], targets, weights, state)
            theta = dict(values)
            if seed is not None:
                _, g, _ = self.slope(values, *batch)
                epsilons = theta_noise(model, seed, index)
                for weight, eta in etas.items():
                    theta[weight] = values[weight] - eta * g[weight] + SIGMA0 * epsilons[weight].numpy()
                    kl += np.sum((eta * g[weight]) ** 2) / (2 * SIGMA0**2)
            nll, g, state = self.slope(theta, *batch)
            total, count = total + nll, count + int(weights.sum())
            values = {weight: values[weight] - learning_rate * g[weight] / len(targets) for weight in values}
            self.nlls.append(nll)
        self.nll, self.kl, self.count = total / count, kl / count, count

    @staticmethod
    def slope(values, model, inputs, targets, weights, state):
        """The summed NLL, its gradient, and the state that the rows go on from."""
        tensors = {weight: tf.constant(value, tf.float32) for weight, value in values.items()}
        state = [[tf.constant(part, tf.float32) for part in state[0]]]
        with tf.GradientTape() as tape, ambient.under(Draw(tensors)):
            tape.watch(list(tensors.values()))
            logits, state = recurrence.run(model.network, inputs, state, training=False)
            log_p = tf.gather(tf.nn.log_softmax(logits), targets, batch_dims=2)
            nll = -tf.reduce_sum(weights * log_p)
        gradients = tape.gradient(nll, list(tensors.values()))
        gradients = dict(zip(tensors, [tf.convert_to_tensor(g).numpy() for g in gradients], strict=True))
        return float(nll), gradients, [[part.numpy() for part in state[0]]]


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
        assert SharpenedBound(nll, kl, 1).perplexity_bound == math.inf

    def test_of_a_model_without_sharpening_is_an_error(self):
        with pytest.raises(ValueError, match=r"sharpening=\.\.\."):
            StreamEvaluator(language_model()).sharpened_bound(STREAM)

    def test_with_sigma0_zero_is_the_means_score(self):
        evaluator = StreamEvaluator(language_model(sharpening=PosteriorSharpening(0.0)))
        for rate in (0.0, RATE):
            bound, mean = evaluator.sharpened_bound(STREAM, rate), evaluator.mean(STREAM, rate)
            assert (bound.nll, bound.kl, bound.predictions) == (mean.nll, 0.0, mean.predictions)

    def test_of_a_dropout_network_drops_nothing(self):
        plain, dropout = sharpened_language_model(), sharpened_language_model(layers=[Dropout(0.5)])
        bounds = [StreamEvaluator(model).sharpened_bound(STREAM, RATE) for model in (plain, dropout)]
        assert bounds[0] == bounds[1]

    def test_a_graph_gives_the_same(self):
        model = sharpened_language_model()
        eager = StreamEvaluator(model).sharpened_bound(STREAM, RATE)
        tf.config.run_functions_eagerly(False)
        model.compile(jit_compile=False)
        compiled = StreamEvaluator(model).sharpened_bound(STREAM, RATE)
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
        bound = evaluator.sharpened_bound(self.MINIBATCHES, learning_rate, seed=5)
        mean = evaluator.mean(self.MINIBATCHES, learning_rate)
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


class TestDynamicEvaluation:
    def test_of_the_mean_is_that_of_a_loop_by_hand(self):
        model = opinionated(language_model())
        hand, plain = Hand(model, STREAM, learning_rate=RATE), Hand(model, STREAM)
        score = StreamEvaluator(model).mean(STREAM, learning_rate=RATE)
        assert score.predictions == 21
        np.testing.assert_allclose(score.nll, hand.nll, **CLOSE)
        assert abs(hand.nll - plain.nll) > 1e-3
        np.testing.assert_allclose(StreamEvaluator(model).mean(STREAM).nll, plain.nll, **CLOSE)

    def test_of_the_bound_is_that_of_a_loop_by_hand(self):
        """phi moves, by the gradient at theta; the next window's g is that at the phi that has moved."""
        model = sharpened_language_model()
        hand = Hand(model, STREAM, seed=7, learning_rate=RATE)
        bound = StreamEvaluator(model).sharpened_bound(STREAM, RATE, seed=7)
        np.testing.assert_allclose([bound.nll, bound.kl], [hand.nll, hand.kl], **CLOSE)
        still = Hand(model, STREAM, seed=7)
        assert abs(hand.nll - still.nll) > 1e-3 and abs(hand.kl - still.kl) > 1e-4

    def test_scores_each_window_before_it_learns_from_it(self):
        evaluator = StreamEvaluator(sharpened_language_model())
        first, second, _ = STREAM
        assert evaluator.mean([first], RATE) == evaluator.mean([first])
        assert evaluator.sharpened_bound([first], RATE) == evaluator.sharpened_bound([first])
        assert evaluator.mean([first, second], RATE) != evaluator.mean([first, second])
        # What the second window's targets are, the first's score does not know.
        flipped = (second[0], (second[1] + 1) % 7, second[2])
        moved = [
            list(evaluator._run(elements, evaluator.model.posterior.mean(), iter, None, RATE))
            for elements in ([first, second], [first, flipped])
        ]
        np.testing.assert_array_equal(moved[0][0].log_probabilities, moved[1][0].log_probabilities)
        assert np.all(moved[0][1].log_probabilities != moved[1][1].log_probabilities)

    def test_at_rate_zero_is_the_plain_score(self):
        evaluator = StreamEvaluator(sharpened_language_model())
        assert evaluator.mean(STREAM, learning_rate=0.0) == evaluator.mean(STREAM)
        assert evaluator.sharpened_bound(STREAM, 0.0) == evaluator.sharpened_bound(STREAM)

    def test_learns_a_pattern_that_is_repeated(self):
        """Rows that count round and round, for 20 windows; the plain score is that of an untaught model."""
        ids = (np.arange(81)[np.newaxis] + np.array([[0], [3]])).astype(np.int32) % 7
        elements = windows(ids)
        evaluator = StreamEvaluator(sharpened_language_model(sigma0=0.02))
        plain, dynamic = evaluator.mean(elements), evaluator.mean(elements, RATE)
        assert dynamic.perplexity < 0.8 * plain.perplexity
        bound = evaluator.sharpened_bound(elements)
        dynamic_bound = evaluator.sharpened_bound(elements, RATE)
        assert dynamic_bound.perplexity_bound < 0.8 * bound.perplexity_bound

    def test_starts_from_the_model_every_time(self):
        evaluator = StreamEvaluator(sharpened_language_model())
        for way in (evaluator.mean, evaluator.sharpened_bound):
            assert way(STREAM, RATE) == way(STREAM, RATE)

    def test_a_window_of_padding_teaches_nothing(self):
        first, second, _ = STREAM
        x, targets, weights = second
        nothing = (x, targets, np.zeros_like(weights))
        again = ({**first[0], "is_first": np.array([True, True])}, *first[1:])
        evaluator = StreamEvaluator(language_model())
        with_it = evaluator.mean([first, nothing, again], RATE)
        assert with_it == evaluator.mean([first, again], RATE)

    @pytest.mark.parametrize("layers", [[], [Dropout(0.5)]], ids=["plain", "dropout"])
    def test_of_point_masses_and_dropout(self, layers):
        """They learn like any weight, and nothing is dropped."""
        model = point_mass_language_model(layers=layers)
        hand = Hand(point_mass_language_model(), STREAM, learning_rate=RATE)
        evaluator = StreamEvaluator(model)
        np.testing.assert_allclose(evaluator.mean(STREAM, RATE).nll, hand.nll, **CLOSE)
        assert evaluator.mean(STREAM, RATE).nll != evaluator.mean(STREAM).nll


class Interrupted(Exception):
    """The stream breaks off."""


MODES = {
    "mean": lambda evaluator, data: evaluator.mean(data),
    "mean, dynamic": lambda evaluator, data: evaluator.mean(data, RATE),
    "average": lambda evaluator, data: evaluator.average(data, samples=2),
    "bound": lambda evaluator, data: evaluator.sharpened_bound(data),
    "bound, dynamic": lambda evaluator, data: evaluator.sharpened_bound(data, RATE),
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
