"""Dynamic evaluation of streams, against loops written by hand."""

import numpy as np
import pytest
from evaluation_by_hand import CLOSE, RATE, STREAM, Hand, opinionated, sharpened_language_model
from small_models import language_model, point_mass_language_model, windows

from tfp_bayesrnn import Dropout
from tfp_bayesrnn.model.evaluation import StreamEvaluator

pytestmark = pytest.mark.usefixtures("eagerly")


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

    @pytest.mark.slow
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
