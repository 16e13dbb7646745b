"""The generator of continuations, against brute force."""

import itertools

import numpy as np
import pytest
import scipy.stats
from word_models import (
    CLOSE,
    PROMPTS,
    SIZE,
    VOCABULARY,
    averaged,
    entropy,
    language_model_network,
    model_of,
    next_log_probs,
    whole,
)

from tfp_bayesrnn import (
    PointMass,
)
from tfp_bayesrnn.errors import InputError
from zoo.data.vocabulary import Vocabulary
from zoo.language_model import continuations as module
from zoo.language_model.continuations import Generator


@pytest.fixture(scope="module")
def model():
    return model_of(language_model_network())


def best_words(network, prompt, draws, count, forbidden=()):
    ids = list(prompt)
    for _ in range(count):
        log_probs = next_log_probs(network, ids, draws)
        log_probs[list(forbidden)] = -np.inf
        ids.append(int(np.argmax(log_probs)))
    return ids[len(prompt) :]


def check_scores(continuation, network, prompt, draws, own_draws):
    """Every figure of a continuation against the network run on prompt and continuation at once."""
    ids = [VOCABULARY.id(word) for word in continuation.words]
    places = np.arange(len(ids))
    parts = whole(network, [*prompt, *ids[:-1]], draws)[:, len(prompt) - 1 :]
    own = averaged(whole(network, [*prompt, *ids[:-1]], own_draws))[len(prompt) - 1 :]
    average = averaged(parts)
    total, aleatoric = entropy(average), entropy(parts).mean(axis=0)
    assert continuation.prompt == tuple(VOCABULARY.decode(prompt))
    np.testing.assert_allclose(continuation.log_probs, average[places, ids], rtol=1e-4, atol=3e-6)
    np.testing.assert_allclose(continuation.own_log_probs, own[places, ids], rtol=1e-4, atol=3e-6)
    np.testing.assert_allclose(continuation.entropies, total, rtol=1e-4)
    np.testing.assert_allclose(continuation.mutual_information, total - aleatoric, atol=3e-6)


@pytest.mark.slow
@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize("samples", [0, 3])
def test_greedy_words_are_the_most_probable_after_each_prompt_alone(model, samples):
    generator = Generator(model, VOCABULARY, max_words=5, samples=samples, seed=4, forbidden=["<unk>"])
    draws = [generator.draw(number) for number in range(max(samples, 1))]
    for prompt, [found] in zip(PROMPTS, generator.generate(PROMPTS), strict=True):
        words = best_words(model.network, prompt, draws, 5, [VOCABULARY.id("<unk>")])
        assert found.words == tuple(VOCABULARY.decode(words))
        assert not found.finished
        check_scores(found, model.network, prompt, draws, draws)
    assert generator.generate([]) == []


@pytest.mark.usefixtures("eagerly")
@pytest.mark.parametrize("samples", [0, 2])
def test_beam_search_finds_the_most_probable_continuations_of_all(model, samples):
    # As many beams as there are beginnings: nothing is lost on the way.
    generator = Generator(model, VOCABULARY, max_words=2, samples=samples, beam=SIZE)
    draws = [generator.draw(number) for number in range(max(samples, 1))]
    for prompt, found in zip(PROMPTS, generator.generate(PROMPTS, 3), strict=True):
        first = next_log_probs(model.network, prompt, draws)
        second = [next_log_probs(model.network, [*prompt, word], draws) for word in range(SIZE)]
        totals = {
            ids: first[ids[0]] + second[ids[0]][ids[1]] for ids in itertools.product(range(SIZE), repeat=2)
        }
        best = sorted(totals, key=totals.get, reverse=True)[:3]
        assert [continuation.words for continuation in found] == [
            tuple(VOCABULARY.decode(ids)) for ids in best
        ]
        for continuation in found:
            check_scores(continuation, model.network, prompt, draws, draws)


def texts(generator, *arguments, **named):
    return [[found.text for found in row] for row in generator.generate(*arguments, **named)]


@pytest.mark.slow
@pytest.mark.usefixtures("eagerly")
def test_the_same_seed_gives_the_same_text_and_another_one_another(model):
    def make(**arguments):
        return Generator(model, VOCABULARY, **{"max_words": 12, "samples": 2, "sampling": {}, **arguments})

    generator = make(seed=7)
    first = texts(generator, PROMPTS, 3)
    assert first == texts(generator, PROMPTS, 3) == texts(make(seed=7), PROMPTS, 3)
    assert first != texts(make(seed=8), PROMPTS, 3)
    assert first != texts(generator, PROMPTS, 3, stream=1)
    assert len({text for row in first for text in row}) == 9
    # Other prompts and continuations behind it change nothing.
    assert texts(generator, PROMPTS[:1], 3) == first[:1]
    assert texts(generator, PROMPTS[:1], 2) == [first[0][:2]]


def test_words_are_sampled_from_the_average_over_draws(model):
    generator = Generator(model, VOCABULARY, max_words=1, samples=2, seed=1, sampling={})
    draws = [generator.draw(number) for number in range(2)]
    [found] = generator.generate([PROMPTS[0]], 3000)
    counts = np.bincount([VOCABULARY.id(continuation.words[0]) for continuation in found], minlength=SIZE)
    expected = np.exp(next_log_probs(model.network, PROMPTS[0], draws))
    # Fixed seeds: it fails for other distributions, not by chance.
    assert scipy.stats.chisquare(counts, expected / expected.sum() * 3000).pvalue > 0.01


@pytest.mark.usefixtures("eagerly")
def test_sampling_takes_temperature_top_k_and_nucleus(model):
    greedy = texts(Generator(model, VOCABULARY, max_words=6), PROMPTS)
    for sampling in ({"temperature": 1e-4}, {"top_k": 1}, {"top_p": 1e-6}):
        generator = Generator(model, VOCABULARY, max_words=6, sampling=sampling)
        assert texts(generator, PROMPTS, 2) == [row * 2 for row in greedy]


@pytest.mark.slow(every=3)
@pytest.mark.parametrize("way", [{}, {"beam": 3}, {"sampling": {"top_p": 0.9}}], ids=str)
def test_a_draw_for_each_continuation_is_that_draw_running_alone(model, way):
    generator = Generator(model, VOCABULARY, max_words=4, draw_per_continuation=True, seed=3, **way)
    draws = [generator.draw(number) for number in range(3)]
    found = generator.generate(PROMPTS, 3)
    for prompt, row in zip(PROMPTS, found, strict=True):
        for draw, continuation in zip(draws, row, strict=True):
            check_scores(continuation, model.network, prompt, draws, [draw])
            if not way:
                words = best_words(model.network, prompt, [draw], 4)
                assert continuation.words == tuple(VOCABULARY.decode(words))
    assert len({row[place].words for row in found for place in range(3)}) > 3
    assert [row[:2] for row in texts(generator, PROMPTS, 3)] == texts(generator, PROMPTS, 2)
    # Draws of other numbers and prompts of other lengths need no further compilation.
    generator.generate([[0] * 9], 5)
    assert generator._decode.experimental_get_tracing_count() == 1
    assert generator._score.experimental_get_tracing_count() == 1


@pytest.mark.usefixtures("eagerly")
def test_a_draw_for_each_continuation_is_found_by_a_model_of_that_mean(model):
    generator = Generator(model, VOCABULARY, max_words=4, draw_per_continuation=True, seed=3)
    [found] = generator.generate([PROMPTS[2]], 2)
    alone = model_of(language_model_network(PointMass()))
    values = generator.draw(1)
    for weight, other in zip(model.posterior.weights, alone.posterior.weights, strict=True):
        other.mu.assign(values[weight])
    [[expected]] = Generator(alone, VOCABULARY, max_words=4).generate([PROMPTS[2]])
    assert found[1].words == expected.words
    np.testing.assert_allclose(found[1].own_log_probs, expected.log_probs, **CLOSE)


@pytest.mark.slow
def test_eos_ends_a_continuation_where_that_is_wanted(model):
    free = Generator(model, VOCABULARY, max_words=30, sampling={})
    ending = Generator(model, VOCABULARY, max_words=30, sampling={}, end_at_eos=True)
    [going_on], [ended] = free.generate([[3]], 8), ending.generate([[3]], 8)
    finished = 0
    for long, short in zip(going_on, ended, strict=True):
        assert len(long.words) == 30 and not long.finished
        cut = long.words[: long.words.index("<eos>") + 1] if "<eos>" in long.words else long.words
        assert (short.words, short.finished) == (cut, "<eos>" in long.words)
        np.testing.assert_allclose(short.log_probs, long.log_probs[: len(cut)], **CLOSE)
        assert all(
            len(values) == len(cut)
            for values in (short.own_log_probs, short.entropies, short.mutual_information)
        )
        finished += short.finished
    assert finished


@pytest.mark.usefixtures("eagerly")
def test_forbidden_words_are_not_generated(model):
    generator = Generator(
        model, VOCABULARY, max_words=50, sampling={"temperature": 3.0}, forbidden=["<unk>", "mat"]
    )
    [found] = generator.generate([[0]], 10)
    assert {word for one in found for word in one.words} == set(VOCABULARY.words) - {"<unk>", "mat"}


@pytest.mark.usefixtures("eagerly")
def test_scores_are_the_same_a_few_rows_at_a_time(model, monkeypatch):
    generator = Generator(model, VOCABULARY, max_words=4, samples=2, sampling={})
    together = generator.generate(PROMPTS, 2)
    monkeypatch.setattr(module, "_SCORED_AT_ONCE", 4 * SIZE * 4)
    for row, expected in zip(generator.generate(PROMPTS, 2), together, strict=True):
        for one, other in zip(row, expected, strict=True):
            assert one.words == other.words
            np.testing.assert_allclose(one.entropies, other.entropies, **CLOSE)
            np.testing.assert_allclose(one.log_probs, other.log_probs, **CLOSE)


@pytest.mark.parametrize(
    "arguments, said",
    [
        ({"max_words": 0}, "max_words=0"),
        ({"beam": 0}, "beam=0"),
        ({"samples": -1}, "samples=-1"),
        ({"samples": 2, "draw_per_continuation": True}, "samples=2, draw_per_continuation=True"),
        ({"beam": 2, "sampling": {}}, "beam=2, sampling={}"),
    ],
)
def test_a_generator_that_makes_no_sense_is_refused(model, arguments, said):
    with pytest.raises(ValueError, match=f"Received: .*{said}"):
        Generator(model, VOCABULARY, **arguments)


@pytest.mark.parametrize("continuations, beam", [(0, 1), (2, 1), (4, 3)])
def test_continuations_that_are_not_searched_for_are_refused(model, continuations, beam):
    generator = Generator(model, VOCABULARY, beam=beam)
    with pytest.raises(ValueError, match=f"Received: continuations={continuations}, beam={beam}"):
        generator.generate([[0]], continuations)


def test_words_that_the_vocabulary_lacks_cannot_be_forbidden_or_end(model):
    with pytest.raises(InputError, match="'dog' is not among the 7 words"):
        Generator(model, VOCABULARY, forbidden=["dog"])
    with pytest.raises(InputError, match="'<eos>' is not among"):
        Generator(model, Vocabulary(["a", "b"]), end_at_eos=True)
