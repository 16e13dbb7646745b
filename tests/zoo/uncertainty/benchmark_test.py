"""The uncertainty benchmark's figures, of models of which all is known; its texts and diagrams."""

import math
import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
import scipy.stats
from uncertainty_models import SIZE, WORDS, chain, known_records, reads, scorer_of, streams_of, text_of

from tfp_bayesrnn import InputError
from tfp_bayesrnn.prediction.uncertainty import auroc
from zoo.data.vocabulary import Vocabulary
from zoo.uncertainty.benchmark import _entropies, measure
from zoo.uncertainty.diagrams import entropies_svg, reliability_svg
from zoo.uncertainty.predictors import FunctionPredictor
from zoo.uncertainty.records import Records
from zoo.uncertainty.streams import Stream, make_streams, read_text, warning_of
from zoo.uncertainty.table import summary


@pytest.fixture(scope="module")
def known():
    return known_records()


# Models of which all is known.


def test_a_chains_entropies_are_those_of_its_rows():
    transitions, tokens = chain(), text_of(chain(), 300)
    records = scorer_of(FunctionPredictor(reads(transitions))).score("test", Stream(tokens, ""))
    before, after = transitions[tokens[:-1]], tokens[1:]
    np.testing.assert_allclose(records.entropy, scipy.stats.entropy(before, axis=1), rtol=1e-5)
    np.testing.assert_allclose(records.log_prob, np.log(before[np.arange(299), after]), rtol=1e-5)
    np.testing.assert_allclose(records.confidence, before.max(axis=1), rtol=1e-6)
    np.testing.assert_array_equal(records.correct, before.argmax(axis=1) == after)
    brier = np.sum((before - np.eye(SIZE)[after]) ** 2, axis=1)
    np.testing.assert_allclose(records.brier, brier, rtol=1e-4, atol=1e-6)
    assert records.aleatoric is None and records.epistemic is None and len(records) == 299


@pytest.mark.parametrize("rows", [1, 4])
def test_samples_are_averaged_and_their_parts_told_apart(rows):
    transitions, tokens = chain(samples=3), text_of(chain(), 61)
    scorer = scorer_of(FunctionPredictor(reads(transitions)), rows=rows)
    assert scorer.layout == ("one stream" if rows == 1 else "4 rows")
    records = scorer.score("test", Stream(tokens, ""))
    before, after = transitions[:, tokens[:-1]], tokens[1:]
    total = scipy.stats.entropy(before.mean(0), axis=-1)
    aleatoric = scipy.stats.entropy(before, axis=-1).mean(0)
    np.testing.assert_allclose(records.entropy, total, rtol=1e-5)
    np.testing.assert_allclose(records.aleatoric, aleatoric, rtol=1e-5)
    np.testing.assert_allclose(records.epistemic, total - aleatoric, atol=2e-6)
    np.testing.assert_allclose(records.log_prob, np.log(before.mean(0)[np.arange(60), after]), rtol=1e-5)


def test_the_figures_of_the_true_chain_are_those_in_closed_form():
    transitions = chain()
    tokens = text_of(transitions, 40_001)
    found = measure(
        scorer_of(FunctionPredictor(reads(transitions)), unroll=2000),
        streams_of(tokens, seed=1),
        SIZE,
        bins=10,
    )["streams"]
    values, vectors = np.linalg.eig(transitions.T)
    stationary = np.real(vectors[:, np.argmax(np.real(values))])
    stationary /= stationary.sum()
    entropies = scipy.stats.entropy(transitions, axis=1)
    rate = float(stationary @ entropies)
    # Standard errors of means over 40,000 words are about 0.005; the bounds are some four of them.
    test = found["test"]
    assert test["entropy"] == pytest.approx(rate, abs=0.02)
    assert test["nll"] == pytest.approx(rate, abs=0.03)
    assert test["perplexity"] == pytest.approx(math.exp(test["nll"]), rel=1e-9)
    assert test["error"] == pytest.approx(1.0 - stationary @ transitions.max(axis=1), abs=0.01)
    assert test["brier"] == pytest.approx(1.0 - stationary @ np.sum(transitions**2, axis=1), abs=0.02)
    assert test["ece"] < 0.02 and test["ece_equal_mass"] < 0.02
    # A reversed text has the words of the test text, shuffled ones too; random ones are uniform.
    assert found["reversed"]["entropy"] == pytest.approx(test["entropy"], abs=1e-3)
    assert found["shuffled"]["entropy_gap"] == pytest.approx(0.0, abs=1e-3)
    random = found["random"]
    assert random["entropy_gap"] == pytest.approx(entropies.mean() - rate, abs=0.02)
    low, high = random["entropy_gap_95"]
    assert low < random["entropy_gap"] < high and high - low < 0.04
    higher = (entropies[:, None] > entropies) + 0.5 * (entropies[:, None] == entropies)
    exact = np.full(SIZE, 1 / SIZE) @ higher @ stationary
    assert random["auroc"]["word"]["entropy"] == pytest.approx(exact, abs=0.015)
    assert abs(random["auroc"]["window"]["entropy"] - 0.5) > abs(exact - 0.5)
    assert random["auroc"]["word"]["epistemic"] is None
    risk = test["risk_coverage"]
    assert risk["risks"]["confidence"][-1] == pytest.approx(test["error"])
    assert risk["best_area"] < risk["areas"]["confidence"] < test["error"]
    assert "epistemic" not in risk["areas"] and risk["coverages"][0] == 0.1


def test_entropies_that_rounding_puts_outside_of_their_bounds_are_counted():
    records = Records(entropy=np.array([-1e-7, 0.0, 0.5, math.log(SIZE) + 1e-6]))
    histogram = _entropies(records, SIZE)["entropy_histogram"]
    assert sum(histogram["counts"]) == 4
    assert histogram["counts"][0] == 2 and histogram["counts"][-1] == 1


def test_an_overconfident_model_is_found_out():
    transitions = chain()
    sharper = transitions**3 / np.sum(transitions**3, axis=1, keepdims=True)
    tokens = text_of(transitions, 20_001)
    test = measure(scorer_of(FunctionPredictor(reads(sharper)), unroll=2000), streams_of(tokens), SIZE)[
        "streams"
    ]["test"]
    confidence = sharper.max(axis=1)[tokens[:-1]]
    right = transitions[np.arange(SIZE), sharper.argmax(axis=1)][tokens[:-1]]
    assert test["ece"] == pytest.approx(np.mean(confidence - right), abs=0.02)
    assert test["ece"] > 0.1


def test_windows_of_a_text_are_told_apart_by_their_means():
    transitions, tokens = chain(samples=2), text_of(chain(), 141)
    scorer = scorer_of(FunctionPredictor(reads(transitions)))
    streams = streams_of(tokens)
    found = measure(scorer, streams, SIZE, window=10)["streams"]["random"]
    records = {name: scorer.score(name, streams[name]) for name in ("test", "random")}
    for field in ("entropy", "epistemic"):
        one, other = (getattr(records[name], field) for name in ("random", "test"))
        assert found["auroc"]["word"][field] == pytest.approx(auroc(one, other))
        expected = auroc(one.reshape(14, 10).mean(1), other.reshape(14, 10).mean(1))
        assert found["auroc"]["window"][field] == pytest.approx(expected)
    whole = measure(scorer, streams, SIZE, window=1000)["streams"]["random"]
    assert whole["entropy_gap_95"] is None and whole["auroc"]["window"]["entropy"] in (0.0, 1.0)
    counts = found["entropy_histogram"]["counts"]
    assert sum(counts) == 140 and len(found["entropy_histogram"]["edges"]) == len(counts) + 1


# Texts.


def test_the_texts(tmp_path):
    tokens = text_of(chain(), 1000)
    path = tmp_path / "news.txt"
    path.write_text("\ufeffa b\n\nzebra c\n", encoding="utf-8")
    streams = make_streams(tokens, WORDS, [path], limit=500, seed=3)
    assert list(streams) == ["test", "reversed", "shuffled", "random", "news"]
    test, again = streams["test"].tokens, make_streams(tokens, WORDS, limit=500, seed=3)
    np.testing.assert_array_equal(test, tokens[:500])
    np.testing.assert_array_equal(streams["reversed"].tokens, tokens[:500][::-1])
    np.testing.assert_array_equal(np.sort(streams["shuffled"].tokens), np.sort(test))
    assert np.mean(streams["shuffled"].tokens == test) < 0.6
    assert np.bincount(streams["random"].tokens, minlength=SIZE).min() > 60
    for name in ("shuffled", "random"):
        np.testing.assert_array_equal(streams[name].tokens, again[name].tokens)
        assert not np.array_equal(streams[name].tokens, make_streams(tokens, WORDS, limit=500)[name].tokens)
    assert WORDS.decode(streams["news"].tokens) == ["a", "b", "<eos>", "<eos>", "<unk>", "c", "<eos>"]
    assert streams["news"].unknown == 1 and "1 of 7 words" in streams["news"].description
    assert streams["news"].predictions == 6
    bare = Vocabulary(["a", "b", "c"])
    path.write_text("a b c")
    np.testing.assert_array_equal(read_text(path, bare).tokens, [0, 1, 2])


@pytest.mark.parametrize(("unknown", "said"), [(0, None), (9, None), (43, "43% of the words of news")])
def test_a_text_of_many_unknown_words_is_warned_about(unknown, said):
    warning = warning_of("news", 99, unknown)
    assert warning is None if said is None else said in warning
    stream = {"description": "news.txt", "predictions": 99, "unknown_words": unknown}
    test = {"description": "the test text", "predictions": 99, "unknown_words": 0}
    results = {"data": "d", "vocabulary": 4, "window": 35, "methods": []}
    shown = summary({**results, "streams": {"test": test, "news": stream}})
    assert ("warning: " in shown) == (said is not None)


def test_texts_that_cannot_be_used(tmp_path):
    tokens = text_of(chain(), 50)
    for limit in (-1, 1):
        with pytest.raises(InputError, match=f"{limit} words of each text"):
            make_streams(tokens, WORDS, limit=limit)
    with pytest.raises(InputError, match="a test text of 1 words"):
        make_streams(tokens[:1], WORDS)
    for name, content, message in (
        ("random.txt", b"a b", "another text with the name 'random'"),
        ("empty.txt", b"", "has 0 words: at least 2"),
        ("latin.txt", b"caf\xe9", "latin.txt, line 1: byte 0xe9 is not UTF-8 text"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=message):
            make_streams(tokens, WORDS, [tmp_path / name])
    with pytest.raises(InputError, match=r"cannot read .*missing\.txt"):
        read_text(tmp_path / "missing.txt", WORDS)
    (tmp_path / "zebra.txt").write_text("a zebra")
    with pytest.raises(InputError, match="word 'zebra' is not among the 3 words"):
        read_text(tmp_path / "zebra.txt", Vocabulary(["a", "b", "c"]))


# Diagrams.


def test_the_diagrams_show_what_they_are_of(known):
    figures = {"name": "a <model> & more", "method": "m", "weights": "mean", "streams": known[3]}
    files = {**figures, "name": "without", "streams": {"test": {**known[3]["test"], "reliability": None}}}
    space = "{http://www.w3.org/2000/svg}"
    root = ElementTree.fromstring(reliability_svg([figures, files]))
    counts = known[3]["test"]["reliability"]["count"]
    bars = [rect for rect in root.iter(f"{space}rect") if rect.find(f"{space}title") is not None]
    assert len(bars) == sum(count > 0 for count in counts)
    tallest = max(float(bar.get("height")) for bar in bars)
    accuracies = [
        value
        for value, count in zip(known[3]["test"]["reliability"]["accuracy"], counts, strict=True)
        if count
    ]
    heights = [float(bar.get("height")) for bar in bars]
    np.testing.assert_allclose(heights, tallest * np.array(accuracies) / max(accuracies), atol=0.2)
    texts = [text.text for text in root.iter(f"{space}text")]
    assert {"a <model> & more", "mean"} <= set(texts) and not any("without" in text for text in texts)
    long = ElementTree.fromstring(reliability_svg([{**figures, "name": "/folder" * 10 + "/name"}]))
    (title,) = [text.text for text in long.iter(f"{space}text") if text.get("font-weight")]
    assert len(title) == 38 and title.startswith("\N{HORIZONTAL ELLIPSIS}") and title.endswith("/folder/name")
    assert f"ECE {known[3]['test']['ece']:.4f}" in texts
    assert ElementTree.fromstring(reliability_svg([figures], equal_mass=True)) is not None
    root = ElementTree.fromstring(entropies_svg([figures, files]))
    drawn = [path.get("d") for path in root.iter(f"{space}path") if path.get("stroke-width") == "1.5"]
    legend, lines = [line for line in drawn if "h24" in line], [line for line in drawn if "h24" not in line]
    assert len(legend) == len(lines) == 4 + 1
    lowest = max(float(point.split()[1]) for line in lines for point in line[1:].split("L"))
    assert all(float(line[1:-3].split()[1]) > lowest + 40 for line in legend)  # Below the axis, its labels.
    strokes = [path.get("stroke") for path in root.iter(f"{space}path") if path.get("stroke-width") == "1.5"]
    assert len(set(strokes)) == 4
    assert len(list(ElementTree.fromstring(entropies_svg([figures], ["test"])).iter(f"{space}path"))) < 20
    assert ElementTree.fromstring(reliability_svg([])) is not None
