"""The uncertainty benchmark of networks: their states, their samples, what cannot be scored."""

import keras
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
from small_models import VOCABULARY, language_model, point_mass_language_model
from uncertainty_models import SIZE, keras_model, scorer_of, stream_of_ids

from tfp_bayesrnn import BayesianModel, Dropout, InputError, NormalLikelihood, noise
from tfp_bayesrnn.model.evaluation import StreamEvaluator
from tfp_bayesrnn.posterior import ambient
from zoo.data.windows import evaluation_windows
from zoo.uncertainty.predictors import FunctionPredictor, InContext, NetworkPredictor
from zoo.uncertainty.sources import Settings, score_network
from zoo.uncertainty.streams import Stream

# Networks.


@pytest.mark.slow(but=["1"])
@pytest.mark.parametrize("rows", [1, 2])
def test_a_posteriors_samples_are_held_for_the_whole_text_and_are_those_of_evaluation(rows):
    model, stream = language_model(run_eagerly=False), stream_of_ids()
    windows = evaluation_windows(stream.tokens, rows, 8)
    evaluator = StreamEvaluator(model)
    settings = Settings(samples=3, seed=5, rows=rows, unroll=8)
    mean, average = score_network(model, "model", VOCABULARY, settings)
    assert (mean.weights, average.weights) == ("mean", "average over 3 samples")
    nll = -np.mean(mean.score("test", stream).log_prob)
    assert nll == pytest.approx(evaluator.mean(windows.dataset()).nll, rel=1e-5)
    records = average.score("test", stream)
    expected = evaluator.average(windows.dataset(), 3, seed=5).nll
    assert -np.mean(records.log_prob) == pytest.approx(expected, rel=1e-5)
    assert np.all(records.epistemic >= 0) and records.epistemic.max() > 0.01
    if rows == 1:  # The whole text at once, under each draw.
        root, probs = noise.derive(noise.make_seed(5), -1), []
        for sample in range(3):
            with ambient.under(model.posterior.sample(noise.derive(root, sample))):
                probs.append(tf.nn.softmax(model.network(stream.tokens[None, :-1]))[0])
        total = scipy.stats.entropy(np.mean(probs, axis=0), axis=-1)
        np.testing.assert_allclose(records.entropy, total, rtol=1e-4)


@pytest.mark.slow
def test_dropout_has_the_masks_of_evaluation_and_a_deterministic_model_one_row():
    model, stream = point_mass_language_model(layers=[Dropout(0.5)], run_eagerly=False), stream_of_ids()
    _, average = score_network(model, "model", VOCABULARY, Settings(samples=3, seed=2, unroll=8))
    windows = evaluation_windows(stream.tokens, 1, 8)
    expected = StreamEvaluator(model).average(windows.dataset(), 3, seed=2).nll
    assert -np.mean(average.score("test", stream).log_prob) == pytest.approx(expected, rel=1e-5)
    plain = point_mass_language_model(layers=[Dropout(0.0)])
    assert len(score_network(plain, "model", VOCABULARY, Settings())) == 1
    assert len(score_network(model, "model", VOCABULARY, Settings(samples=0))) == 1


@pytest.mark.slow(
    but=[
        "None-<lambda>-settings0-one stream",
        "log_softmax-<lambda>-settings1-windows of 6 words after up to 2",
    ]
)
@pytest.mark.parametrize(
    ("layer", "settings", "layout"),
    [
        (lambda: keras.layers.LSTM(3, return_sequences=True), Settings(unroll=6), "one stream"),
        (
            lambda: keras.layers.Conv1D(3, 3, padding="causal"),
            Settings(unroll=6, context=2),
            "windows of 6 words after up to 2",
        ),
    ],
)
@pytest.mark.parametrize("activation", [None, "softmax", "log_softmax"])
def test_keras_models_are_read_as_if_at_once(layer, settings, layout, activation):
    model, stream = keras_model(layer(), activation=activation), stream_of_ids()
    (scorer,) = score_network(model, "model", VOCABULARY, settings)
    assert scorer.layout == layout
    outputs = model(stream.tokens[None, :-1]).numpy()[0].astype(np.float64)
    probs = outputs if activation == "softmax" else scipy.special.softmax(outputs, axis=-1)
    records = scorer.score("test", stream)
    # Entropies near zero have the rounding of the probabilities near one.
    np.testing.assert_allclose(records.entropy, scipy.stats.entropy(probs, axis=-1), rtol=1e-3, atol=1e-5)


def test_too_little_context_changes_what_a_window_says():
    model, stream = keras_model(keras.layers.Conv1D(3, 3, padding="causal")), stream_of_ids()
    probs = tf.nn.softmax(model(stream.tokens[None, :-1]))[0].numpy()
    records = scorer_of(InContext(NetworkPredictor(model), 0), VOCABULARY, unroll=6).score("test", stream)
    same = np.isclose(records.entropy, scipy.stats.entropy(probs, axis=-1), rtol=1e-3, atol=1e-5)
    place = np.arange(44) % 6
    assert same[:6].all() and same[place >= 2].all()
    assert np.mean(same[6:][place[6:] < 2]) < 0.5


@pytest.mark.slow
def test_keras_dropout_is_on_in_samples_and_changes_no_variable():
    model = keras_model(keras.layers.Dropout(0.5))
    before = [weight.numpy().copy() for weight in model.weights]
    mean, average = score_network(model, "model", VOCABULARY, Settings(samples=4))
    stream = stream_of_ids()
    assert mean.score("test", stream).epistemic is None
    assert average.score("test", stream).epistemic.max() > 0.05
    for weight, value in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(weight.numpy(), value)
    assert (
        len(
            score_network(
                keras_model(keras.layers.LSTM(2, dropout=0.3, return_sequences=True)),
                "m",
                VOCABULARY,
                Settings(),
            )
        )
        == 2
    )


@pytest.mark.slow
def test_networks_that_cannot_be_scored():
    both = keras_model(keras.layers.Bidirectional(keras.layers.LSTM(2, return_sequences=True)))
    with pytest.raises(InputError, match="both looks ahead: its probabilities change"):
        score_network(both, "both", VOCABULARY, Settings())
    normalised = keras_model(keras.layers.BatchNormalization(), keras.layers.Dropout(0.5))
    with pytest.raises(
        InputError, match=r"'batch_normalization.*', which passes with training=True would change"
    ):
        score_network(normalised, "model", VOCABULARY, Settings())
    assert len(score_network(normalised, "model", VOCABULARY, Settings(samples=0))) == 1
    short = keras.Sequential([keras.Input([5]), keras.layers.Embedding(VOCABULARY, VOCABULARY)])
    with pytest.raises(InputError, match="short takes 5 words; accepted: models of any number"):
        score_network(short, "short", VOCABULARY, Settings())
    other = BayesianModel(language_model().network, training_rows=1, likelihood=NormalLikelihood(1.0))
    with pytest.raises(InputError, match="another likelihood"):
        score_network(other, "other", VOCABULARY, Settings())
    (narrow,) = score_network(keras_model(), "narrow", VOCABULARY, Settings())
    narrow._vocabulary_size = VOCABULARY + 1
    with pytest.raises(
        InputError,
        match=r"narrow gave outputs of shape \[1, 1, 100, 7\] for test; accepted: \[samples, 1, 100, 8\]",
    ):
        narrow.score("test", stream_of_ids())
    with pytest.raises(InputError, match="gave probabilities for test that are not numbers"):
        broken = FunctionPredictor(lambda ids, state: (np.full((*ids.shape, SIZE), np.nan), None))
        scorer_of(broken).score("test", Stream(np.zeros(5, np.int32), ""))


@pytest.mark.parametrize(("name", "value"), [("samples", -1), ("rows", 0), ("unroll", 0), ("context", -1)])
def test_settings_out_of_range(name, value):
    with pytest.raises(InputError, match=f"{name}={value}: accepted"):
        Settings(**{name: value})
