"""Dynamic evaluation of streams, against loops written by hand."""

import numpy as np
import pytest
import tensorflow as tf
from evaluation_by_hand import CLOSE, RATE, STREAM, Hand, opinionated, sharpened_language_model
from small_models import language_model, point_mass_language_model, regression, windows

from tfp_bayesrnn import Dropout, MeanFieldNormal, NormalPrior, PointMass, VariationalDense
from tfp_bayesrnn.model.dynamic_evaluation import by_posterior, rms, sgd
from tfp_bayesrnn.model.evaluation import StreamEvaluator

SGD = sgd(RATE)

pytestmark = pytest.mark.usefixtures("eagerly")


class TestDynamicEvaluation:
    def test_of_the_mean_is_that_of_a_loop_by_hand(self):
        model = opinionated(language_model())
        hand, plain = Hand(model, STREAM, learning_rate=RATE), Hand(model, STREAM)
        score = StreamEvaluator(model).mean(STREAM, SGD)
        assert score.predictions == 21
        np.testing.assert_allclose(score.nll, hand.nll, **CLOSE)
        assert abs(hand.nll - plain.nll) > 1e-3
        np.testing.assert_allclose(StreamEvaluator(model).mean(STREAM).nll, plain.nll, **CLOSE)

    def test_of_the_bound_is_that_of_a_loop_by_hand(self):
        """phi moves, by the gradient at theta; the next window's g is that at the phi that has moved."""
        model = sharpened_language_model()
        hand = Hand(model, STREAM, seed=7, learning_rate=RATE)
        bound = StreamEvaluator(model).sharpened_bound(STREAM, SGD, seed=7)
        np.testing.assert_allclose([bound.nll, bound.kl], [hand.nll, hand.kl], **CLOSE)
        still = Hand(model, STREAM, seed=7)
        assert abs(hand.nll - still.nll) > 1e-3 and abs(hand.kl - still.kl) > 1e-4

    def test_scores_each_window_before_it_learns_from_it(self):
        evaluator = StreamEvaluator(sharpened_language_model())
        first, second, _ = STREAM
        assert evaluator.mean([first], SGD) == evaluator.mean([first])
        assert evaluator.sharpened_bound([first], SGD) == evaluator.sharpened_bound([first])
        assert evaluator.mean([first, second], SGD) != evaluator.mean([first, second])
        # What the second window's targets are, the first's score does not know.
        flipped = (second[0], (second[1] + 1) % 7, second[2])
        moved = [
            list(evaluator._run(elements, evaluator.model.posterior.mean(), iter, None, SGD))
            for elements in ([first, second], [first, flipped])
        ]
        np.testing.assert_array_equal(moved[0][0].log_probabilities, moved[1][0].log_probabilities)
        assert np.all(moved[0][1].log_probabilities != moved[1][1].log_probabilities)

    def test_at_rate_zero_is_the_plain_score(self):
        evaluator = StreamEvaluator(sharpened_language_model())
        assert evaluator.mean(STREAM, sgd(0.0)) == evaluator.mean(STREAM)
        assert evaluator.sharpened_bound(STREAM, sgd(0.0)) == evaluator.sharpened_bound(STREAM)

    @pytest.mark.slow
    def test_learns_a_pattern_that_is_repeated(self):
        """Rows that count round and round, for 20 windows; the plain score is that of an untaught model."""
        ids = (np.arange(81)[np.newaxis] + np.array([[0], [3]])).astype(np.int32) % 7
        elements = windows(ids)
        evaluator = StreamEvaluator(sharpened_language_model(sigma0=0.02))
        plain, dynamic = evaluator.mean(elements), evaluator.mean(elements, SGD)
        assert dynamic.perplexity < 0.8 * plain.perplexity
        bound = evaluator.sharpened_bound(elements)
        dynamic_bound = evaluator.sharpened_bound(elements, SGD)
        assert dynamic_bound.perplexity_bound < 0.8 * bound.perplexity_bound

    def test_starts_from_the_model_every_time(self):
        evaluator = StreamEvaluator(sharpened_language_model())
        for way in (evaluator.mean, evaluator.sharpened_bound):
            assert way(STREAM, SGD) == way(STREAM, SGD)

    def test_a_window_of_padding_teaches_nothing(self):
        first, second, _ = STREAM
        x, targets, weights = second
        nothing = (x, targets, np.zeros_like(weights))
        again = ({**first[0], "is_first": np.array([True, True])}, *first[1:])
        evaluator = StreamEvaluator(language_model())
        with_it = evaluator.mean([first, nothing, again], SGD)
        assert with_it == evaluator.mean([first, again], SGD)

    @pytest.mark.parametrize("layers", [[], [Dropout(0.5)]], ids=["plain", "dropout"])
    def test_of_point_masses_and_dropout(self, layers):
        """They learn like any weight, and nothing is dropped."""
        model = point_mass_language_model(layers=layers)
        hand = Hand(point_mass_language_model(), STREAM, learning_rate=RATE)
        evaluator = StreamEvaluator(model)
        np.testing.assert_allclose(evaluator.mean(STREAM, SGD).nll, hand.nll, **CLOSE)
        assert evaluator.mean(STREAM, SGD).nll != evaluator.mean(STREAM).nll


class TestRules:
    DECAY = 0.05

    def test_mean_squares_are_those_of_a_loop_by_hand(self):
        model = opinionated(language_model())
        found = StreamEvaluator(model).mean_squares(STREAM)
        expected = Hand(model, STREAM).squares
        assert list(found) == model.posterior.weights
        for weight, square in found.items():
            np.testing.assert_allclose(square, expected[weight], rtol=1e-4, atol=1e-9)

    def test_without_a_window_there_are_none(self):
        with pytest.raises(ValueError, match="at least one window"):
            StreamEvaluator(language_model()).mean_squares([])

    @pytest.mark.parametrize("decay", [0.0, DECAY, 3.0])
    def test_rms_is_that_of_a_loop_by_hand(self, decay):
        """Krause et al. (2018); the greatest decay is to the trained weights themselves."""
        model = opinionated(language_model())
        evaluator = StreamEvaluator(model)
        roots = {weight: np.sqrt(square) for weight, square in Hand(model, STREAM).squares.items()}
        mean = np.mean(np.concatenate([np.ravel(root) for root in roots.values()]))
        scales = {weight: 1.0 / (root + 0.1 * mean) for weight, root in roots.items()}
        decays = {weight: np.minimum(decay * root / mean, 1.0) for weight, root in roots.items()}
        hand = Hand(model, STREAM, learning_rate=0.02, scales=scales, decays=decays)
        rule = rms(0.02, decay, evaluator.mean_squares(STREAM))
        np.testing.assert_allclose(evaluator.mean(STREAM, rule).nll, hand.nll, **CLOSE)
        assert abs(hand.nll - Hand(model, STREAM).nll) > 1e-3

    def test_by_posterior_is_that_of_a_loop_by_hand(self):
        model = opinionated(language_model())
        scales = {weight: np.square(weight.scale().numpy()) for weight in model.posterior.weights}
        decays = dict.fromkeys(scales, self.DECAY)
        hand = Hand(model, STREAM, learning_rate=40.0, scales=scales, decays=decays)
        rule = by_posterior(40.0, self.DECAY, model.posterior)
        np.testing.assert_allclose(StreamEvaluator(model).mean(STREAM, rule).nll, hand.nll, **CLOSE)
        assert abs(hand.nll - Hand(model, STREAM).nll) > 1e-3

    def test_by_posterior_at_a_rate_of_the_rows_is_bayes_s_rule(self):
        """Of one weight w ~ N(mu, s^2) and y ~ N(w x, 0.5^2) the new mean is known; to first order in s^2."""
        x, y = np.array([[1.0], [-2.0], [0.5]], np.float32), np.array([[0.3], [1.0], [-0.4]], np.float32)
        family = MeanFieldNormal((0.01, 0.01))
        layer = VariationalDense(1, use_bias=False, prior=NormalPrior(1.0), posterior=family)
        model = regression([layer], features=1)
        (weight,) = model.posterior.weights
        mu, variance = weight.mu.numpy().item(), weight.scale().numpy().item() ** 2
        precision = 1.0 / variance + np.sum(x**2) / 0.25
        exact = (mu / variance + np.sum(x * y) / 0.25) / precision
        nll = [0.5 * ((w * x - y) / 0.5) ** 2 + np.log(0.5 * np.sqrt(2.0 * np.pi)) for w in (mu, exact)]
        rule = by_posterior(float(len(x)), 0.0, model.posterior)
        score = StreamEvaluator(model).mean([(x, y), (x, y)], rule)
        # The step is longer by a factor of 1 + variance * curvature, 1.002 here.
        gain = np.mean(nll[0]) - np.mean(nll[1])
        np.testing.assert_allclose(score.nll, np.mean(nll[0]) - gain / 2.0, atol=0.003 * gain)

    def test_by_posterior_needs_distributions(self):
        model = language_model(posterior=PointMass())
        with pytest.raises(ValueError, match="need weights with distributions"):
            by_posterior(1.0, 0.0, model.posterior)

    @pytest.mark.parametrize(
        ("make", "message"),
        [
            (lambda squares, posterior: sgd(-1.0), "learning_rate=-1.0"),
            (lambda squares, posterior: sgd(float("nan")), "learning_rate=nan"),
            (lambda squares, posterior: rms(0.1, -0.1, squares), "decay must be at least 0"),
            (lambda squares, posterior: rms(0.1, 0.1, squares, epsilon=-1.0), "epsilon must be at least 0"),
            (lambda squares, posterior: by_posterior(0.1, 1.5, posterior), "decay must be from 0 to 1"),
            (
                lambda squares, posterior: rms(0.1, 0.1, {w: tf.zeros_like(s) for w, s in squares.items()}),
                "the gradients of training are 0",
            ),
        ],
    )
    def test_what_is_out_of_range_is_refused(self, make, message):
        posterior = language_model().posterior
        with pytest.raises(ValueError, match=message):
            make({weight: tf.ones(weight.shape) for weight in posterior.weights}, posterior)
