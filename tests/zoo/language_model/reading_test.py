"""A network that has read prompts, and scores of words, against the network run on whole texts."""

import numpy as np
import pytest
import tensorflow as tf
from word_models import (
    CLOSE,
    PROMPTS,
    SIZE,
    averaged,
    draws_of,
    entropy,
    language_model_network,
    model_of,
    padded,
    sequential_network,
    whole,
)

from tfp_bayesrnn import (
    PointMass,
    noise,
)
from tfp_bayesrnn.posterior.posterior import Posterior
from tfp_bayesrnn.prediction import uncertainty
from tfp_bayesrnn.prediction.draws import FreshDraws, GivenDraws
from zoo.language_model.reading import prime, score_words


@pytest.fixture(scope="module")
def model():
    return model_of(language_model_network())


# prime


@pytest.mark.slow(every=2)
@pytest.mark.parametrize("make", [language_model_network, sequential_network])
def test_reading_prompts_word_by_word_is_running_the_network_on_each_whole_prompt(make):
    network = make()
    draws = draws_of(network, 2)
    following = np.array([[1, 5], [0, 0], [4, 2]], np.int32)

    @tf.function(
        input_signature=[tf.TensorSpec([None, None], tf.int32), tf.TensorSpec([None], tf.int32)],
        autograph=False,
    )
    def run(prompt, lengths):
        step, state, last = prime(network, prompt, lengths, GivenDraws(draws))
        results = []
        for tokens in (last, *(following[: len(PROMPTS), time] for time in range(2))):
            log_probs, state = step(tokens, state)
            results.append(log_probs)
        return last, tf.stack(results, axis=1)

    last, found = run(*padded(PROMPTS))
    np.testing.assert_array_equal(last, [prompt[-1] for prompt in PROMPTS])
    for row, prompt in enumerate(PROMPTS):
        expected = averaged(whole(network, [*prompt, *following[row]], draws))[len(prompt) - 1 :]
        np.testing.assert_allclose(found[row], expected, **CLOSE)


@pytest.mark.usefixtures("eagerly")
def test_every_draw_reads_the_prompt_with_a_state_of_its_own():
    network = language_model_network()
    draws = draws_of(network, 2)
    step, state, last = prime(network, *padded(PROMPTS), GivenDraws(draws))
    _, state = step(last, state)
    first, second = (tf.nest.map_structure(lambda value, at=at: value[:, at], state) for at in range(2))
    assert not np.allclose(tf.nest.flatten(first)[0], tf.nest.flatten(second)[0], atol=1e-2)
    _, alone, last = prime(network, *padded(PROMPTS), GivenDraws(draws[1:]))
    alone = tf.nest.map_structure(lambda value: tf.repeat(value, 2, axis=1), alone)
    _, expected = step(last, alone)
    expected = tf.nest.map_structure(lambda value: value[:, 1], expected)
    tf.nest.map_structure(lambda *values: np.testing.assert_allclose(*values, **CLOSE), second, expected)


@pytest.mark.usefixtures("eagerly")
def test_dropout_is_off_under_draws_too():
    network = language_model_network(PointMass(), dropout=0.5, recurrent_dropout=0.5, output_dropout=0.5)
    results = []
    for draw in (Posterior.of(network).mean(), Posterior.of(network).sample(3)):
        step, state, last = prime(network, *padded(PROMPTS), GivenDraws([draw]))
        results.append(step(last, state)[0])
    np.testing.assert_array_equal(*results)


def test_without_a_draw_nothing_can_be_read(model):
    with pytest.raises(ValueError, match=r"at least one draw.*Received: draws=\[\]"):
        prime(model.network, *padded(PROMPTS), GivenDraws([]))


# score_words


class OfNumbers(FreshDraws):
    """The draws of `draws_of`."""

    def __init__(self, posterior, count):
        super().__init__(posterior, count, noise.make_seed(0))

    def draw(self, place):
        return self._source.sample(noise.make_seed(place)).without_dropout()


@pytest.mark.parametrize("count", [1, 3])
def test_scores_are_those_of_the_average_in_numpy(model, count):
    network, posterior = model.network, model.posterior
    words = np.array([[1, 5, 3], [2, 0, 0], [4, 4, 6]], np.int32)
    sizes = np.array([3, 1, 2], np.int32)
    draws = draws_of(network, count)
    scored = tf.function(
        lambda number: score_words(
            network,
            *padded(PROMPTS),
            words,
            sizes,
            OfNumbers(posterior, number),
        ),
        autograph=False,
    )
    found = scored(tf.constant(count))
    for row, prompt in enumerate(PROMPTS):
        size = sizes[row]
        parts = whole(network, [*prompt, *words[row][: size - 1]], draws)[:, len(prompt) - 1 :]
        average = averaged(parts)
        total, aleatoric = entropy(average), entropy(parts).mean(axis=0)
        expected = (average[np.arange(size), words[row][:size]], total, total - aleatoric)
        for values, wanted in zip(found, expected, strict=True):
            np.testing.assert_allclose(values[row][:size], wanted, rtol=1e-4, atol=3e-6)
            np.testing.assert_array_equal(values[row][size:], 0.0)
        parts = uncertainty.decompose(tf.constant(parts, tf.float32))
        np.testing.assert_allclose(found.entropy[row][:size], parts.total, rtol=1e-4)
        np.testing.assert_allclose(found.mutual_information[row][:size], parts.epistemic, atol=3e-6)
    if count == 1:
        np.testing.assert_array_equal(found.mutual_information, 0.0)
    else:
        assert np.max(found.mutual_information) > 0.02


@pytest.mark.usefixtures("eagerly")
def test_words_of_a_probability_that_float32_cannot_hold_have_a_log_probability():
    network = language_model_network(PointMass())
    bias = next(weight for weight in Posterior.of(network).weights if weight.shape == (SIZE,))
    bias.mu.assign(tf.one_hot(4, SIZE) * -300.0)
    draw = Posterior.of(network).mean()
    found = score_words(network, *padded([[3]]), np.array([[4, 0]]), np.array([1]), GivenDraws([draw, draw]))
    expected = whole(network, [3], [draw])[0, 0, 4]
    assert expected < -200
    np.testing.assert_allclose(found.log_probs, [[expected, 0.0]], rtol=1e-6)
    assert np.all(np.isfinite(found.entropy))
