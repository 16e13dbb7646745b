"""Scores of streams against hand counts and whole passes."""

import math

import keras
import numpy as np
import pytest
import scipy.special
import small_models
import tensorflow as tf
from small_models import (
    VOCABULARY,
    assert_identical,
    language_model,
    point_mass_language_model,
    tokens,
    values,
    windows,
)

from tfp_bayesrnn import BayesianModel, Dropout, VariationalDense, noise
from tfp_bayesrnn.model.evaluation import StreamEvaluator, StreamScore
from tfp_bayesrnn.posterior import ambient

IDS = tokens()  # 2 rows of 12 predictions.

CLOSE = {"rtol": 1e-5, "atol": 1e-6}  # Float32 log-probabilities, summed in another order.


pytestmark = pytest.mark.usefixtures("eagerly")


def padded_windows(ids, unroll, lengths):
    """Windows of rows of different lengths; the last of `unroll` steps too, padded with id 0 and weight 0."""
    steps = -(-(ids.shape[1] - 1) // unroll) * unroll
    padded = np.zeros([len(ids), steps + 1], ids.dtype)
    padded[:, : ids.shape[1]] = ids
    weights = (np.arange(steps) < np.array(lengths)[:, None]).astype(np.float32)
    cut = [weights[:, start : start + unroll] for start in range(0, steps, unroll)]
    return [(*data, weight) for data, weight in zip(windows(padded, unroll), cut, strict=True)]


def log_probabilities(model, ids, draw):
    """[B, T], of whole rows in one pass."""
    with ambient.under(draw):
        logits = model.network(ids[:, :-1], training=False)
    return tf.gather(tf.nn.log_softmax(logits), ids[:, 1:], batch_dims=2).numpy()


class TestPerplexity:
    @pytest.fixture
    def bigrams(self):
        """A model whose predictions are a table: p(next | current), known."""
        table = np.random.default_rng(0).dirichlet(np.ones(VOCABULARY), VOCABULARY)
        layer = keras.layers.Embedding(VOCABULARY, VOCABULARY, weights=[np.log(table)])
        model = BayesianModel(keras.Sequential([layer]))
        model.build((None, None))
        return model, table

    def test_is_a_hand_count(self, bigrams):
        model, table = bigrams
        inputs, targets = IDS[:, :-1], IDS[:, 1:]
        product = math.prod(
            table[one, other] for one, other in zip(inputs.ravel(), targets.ravel(), strict=True)
        )
        score = StreamEvaluator(model).mean([(inputs, targets)])
        assert score.predictions == 24
        np.testing.assert_allclose(score.perplexity, product ** (-1 / 24), rtol=1e-5)

    def test_padding_is_no_prediction(self, bigrams):
        model, table = bigrams
        weights = np.arange(12) < np.array([[12], [5]])
        score = StreamEvaluator(model).mean([(IDS[:, :-1], IDS[:, 1:], weights)])
        nats = -np.log(table[IDS[:, :-1], IDS[:, 1:]])
        assert score.predictions == 17
        np.testing.assert_allclose(score.nll, (nats[0].sum() + nats[1, :5].sum()) / 17, **CLOSE)

    def test_of_an_ignorant_model_is_the_vocabulary(self):
        layer = VariationalDense(5, kernel_initializer="zeros")
        model = BayesianModel(keras.Sequential([layer]))
        model.build((None, None, 2))
        score = StreamEvaluator(model).mean([(np.ones([2, 3, 2], np.float32), np.ones([2, 3], np.int32))])
        np.testing.assert_allclose(score.perplexity, 5.0, rtol=1e-6)

    def test_overflows_to_infinity(self):
        assert StreamScore(1e4, 1).perplexity == math.inf
        np.testing.assert_allclose(StreamScore(math.log(80.0), 1).perplexity, 80.0)


class TestStreams:
    @pytest.mark.parametrize("unroll", [1, 5, 12, 20])
    def test_the_score_is_that_of_one_long_pass_whatever_the_unroll(self, unroll):
        model = language_model()
        lengths = [12, 9]
        score = StreamEvaluator(model).mean(padded_windows(IDS, unroll, lengths))
        expected = log_probabilities(model, IDS, model.posterior.mean())
        assert score.predictions == sum(lengths)
        np.testing.assert_allclose(score.nll, -(expected[0].sum() + expected[1, :9].sum()) / 21, **CLOSE)

    def test_rows_do_not_see_each_other(self):
        model = language_model()
        both = StreamEvaluator(model).mean(windows(IDS))
        apart = [StreamEvaluator(model).mean(windows(IDS[row : row + 1])) for row in range(2)]
        np.testing.assert_allclose(both.nll, np.mean([score.nll for score in apart]), **CLOSE)

    def test_log_probabilities_are_in_the_order_of_windows_then_rows(self):
        model = language_model()
        draw = model.posterior.mean()
        scores = StreamEvaluator(model).log_probabilities(windows(IDS, unroll=6), draw)
        whole = log_probabilities(model, IDS, draw)
        np.testing.assert_allclose(
            scores, np.concatenate([whole[:, :6].ravel(), whole[:, 6:].ravel()]), **CLOSE
        )
        assert scores.dtype == np.float64

    def test_progress_sees_every_window(self):
        seen = []

        def progress(dataset):
            for data in dataset:
                seen.append(data)
                yield data

        StreamEvaluator(point_mass_language_model()).average(windows(IDS), samples=2, progress=progress)
        assert len(seen) == 2 * len(windows(IDS))

    def test_nothing_of_the_model_changes(self):
        model = language_model()
        model.train_on_batch(*windows(IDS)[0])
        state = model._carried_train.variables_flat

        def everything():
            return values([*model.variables, *model.metrics_variables, *model.optimizer.variables, *state])

        before = everything()
        StreamEvaluator(model).mean(windows(IDS))
        StreamEvaluator(model).average(windows(IDS), samples=2)
        assert_identical(everything(), before)
        assert model._carried_test is None


class TestAverage:
    def test_is_of_probabilities_over_draws_held_for_the_whole_stream(self):
        model, samples = language_model(), 3
        root = noise.derive(noise.make_seed(7), noise.Stream.EVALUATION_DRAWS)
        passes = [
            log_probabilities(model, IDS, model.posterior.sample(noise.derive(root, sample)))
            for sample in range(samples)
        ]
        mixture = scipy.special.logsumexp(np.array(passes, np.float64), axis=0) - math.log(samples)
        score = StreamEvaluator(model).average(windows(IDS, unroll=5), samples, seed=7)
        np.testing.assert_allclose(score.nll, -mixture.mean(), **CLOSE)
        # Far from an average of log-probabilities, and from the mean's score.
        assert score.nll < -np.mean(passes) - 1e-3
        assert abs(score.nll - StreamEvaluator(model).mean(windows(IDS)).nll) > 1e-3

    def test_the_seed_decides_and_the_models_is_the_default(self):
        model = language_model(seed=7)
        scores = [StreamEvaluator(model).average(windows(IDS), 2, seed=seed).nll for seed in (None, 7, 8)]
        assert scores[0] == scores[1] != scores[2]

    def test_its_draws_are_none_of_trainings(self):
        model = language_model()
        score = StreamEvaluator(model).average(windows(IDS), 1)
        for step in range(3):
            model.optimizer.iterations.assign(step)
            nats = log_probabilities(model, IDS, model.posterior.sample(model.step_seed()))
            assert abs(score.nll + nats.mean()) > 1e-4

    def test_a_dropout_network_is_stochastic_under_samples_and_not_under_the_mean(self):
        plain, dropout = point_mass_language_model(), point_mass_language_model(layers=[Dropout(0.5)])
        expected = StreamEvaluator(plain).mean(windows(IDS))
        assert StreamEvaluator(dropout).mean(windows(IDS)) == expected
        samples = [StreamEvaluator(dropout).average(windows(IDS), 1, seed=seed).nll for seed in range(3)]
        assert len({*samples, expected.nll}) == 4

    def test_of_point_masses_is_the_mean(self):
        model = point_mass_language_model()
        scores = [StreamEvaluator(model).mean(windows(IDS)), StreamEvaluator(model).average(windows(IDS), 3)]
        np.testing.assert_allclose(scores[1].nll, scores[0].nll, rtol=1e-12)

    @pytest.mark.parametrize("samples", [0, -1])
    def test_needs_a_sample(self, samples):
        with pytest.raises(ValueError, match=f"Received: samples={samples}"):
            StreamEvaluator(language_model()).average(windows(IDS), samples)


def test_an_unbuilt_model_is_an_error():
    """Its posterior has no weights yet: every draw would silently be the mean."""
    with pytest.raises(ValueError, match="must be built"):
        StreamEvaluator(BayesianModel(keras.Sequential([VariationalDense(2)])))


def test_compiled_and_eager_scores_agree():
    model = small_models.language_model()
    eager = StreamEvaluator(model).mean(windows(IDS))
    tf.config.run_functions_eagerly(False)
    model.compile(jit_compile=False)
    compiled = StreamEvaluator(model).mean(windows(IDS))
    np.testing.assert_allclose(compiled.nll, eager.nll, **CLOSE)
