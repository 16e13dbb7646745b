"""The uncertainty benchmark of models of others: functions, SavedModels, files."""

import math
import os

import export_models
import numpy as np
import pytest
import scipy.stats
import tensorflow as tf
from uncertainty_models import SIZE, WORDS, chain, known_records, reads, scorer_of, streams_of, text_of

from tfp_bayesrnn import InputError
from tfp_bayesrnn.export.saved_model import write_saved_model
from zoo.data.vocabulary import Vocabulary
from zoo.filesystem.checksums import Checksums
from zoo.uncertainty.benchmark import measure
from zoo.uncertainty.files import FileScorer
from zoo.uncertainty.predictors import FunctionPredictor, SavedModelPredictor
from zoo.uncertainty.records import VALUES
from zoo.uncertainty.sources import Settings, open_source, score_network
from zoo.uncertainty.streams import Stream


@pytest.fixture(scope="module")
def known():
    return known_records()


# Functions and SavedModels.


def test_a_function_is_given_its_state():
    seen = []

    def function(ids, state):
        seen.append((ids.shape, state))
        return np.full((*ids.shape, SIZE), 1 / SIZE), len(seen)

    records = scorer_of(FunctionPredictor(function), unroll=4).score(
        "test", Stream(np.zeros(10, np.int32), "")
    )
    assert seen == [((1, 4), None), ((1, 4), 1), ((1, 4), 2)]
    np.testing.assert_allclose(records.entropy, np.full(9, math.log(SIZE)), rtol=1e-6)
    with pytest.raises(InputError, match="returned ndarray; accepted: a pair"):
        FunctionPredictor(lambda ids, state: np.zeros(3))(tf.constant([[1]]), None)


class Chain(tf.Module):
    """A Markov chain with signatures: a stranger's, or those that this project's exports have."""

    def __init__(self):
        super().__init__()
        self.log_probs = tf.constant(np.log(chain()), tf.float32)

    def read(self, tokens):
        return {"log_probs": tf.gather(self.log_probs, tokens), "length": tf.shape(tokens)[1]}

    def score(self, ids, lengths):
        before = tf.concat([tf.zeros_like(ids[:, :1]), ids[:, :-1]], axis=1)
        log_probs = tf.gather(self.log_probs, before)
        entropy = -tf.reduce_sum(log_probs * tf.exp(log_probs), axis=-1)
        return {"log_probs": tf.gather(log_probs, ids, batch_dims=2), "entropy": entropy}

    def score_mc(self, ids, lengths, num_samples, seed):
        scores = self.score(ids, lengths)
        return {
            **scores,
            "mutual_information": scores["entropy"] * tf.cast(num_samples + seed, tf.float32) / 20.0,
        }

    def detokenize(self, ids, lengths):
        return {"words": tf.gather(tf.constant(WORDS.words), ids)}


def saved(path, **signatures):
    module = Chain()
    ids, lengths = tf.TensorSpec([None, None], tf.int32, "ids"), tf.TensorSpec([None], tf.int32, "lengths")
    scalars = [tf.TensorSpec([], tf.int32, name) for name in ("num_samples", "seed")]
    specs = {
        "read": [tf.TensorSpec([None, None], tf.int64, "tokens")],
        "score": [ids, lengths],
        "score_mc": [ids, lengths, *scalars],
        "detokenize": [ids, lengths],
    }
    functions = {
        name: tf.function(getattr(module, method), input_signature=specs[method])
        for name, method in signatures.items()
    }
    tf.saved_model.save(module, str(path), signatures=functions)
    return str(path)


def test_a_strangers_saved_model(tmp_path):
    path = saved(tmp_path / "model", serving_default="read")
    (scorer,) = open_source(f"theirs={path}", WORDS, Settings(unroll=10, context=3))
    assert (scorer.name, scorer.layout) == ("theirs", "windows of 10 words after up to 3")
    tokens = text_of(chain(), 47)
    expected = scorer_of(FunctionPredictor(reads(chain()))).score("test", Stream(tokens, ""))
    for one, other in zip(scorer.score("test", Stream(tokens, "")), expected, strict=True):
        assert one is other is None or np.allclose(one, other, atol=1e-5)


def test_signatures_that_cannot_be_scored(tmp_path):
    several = tf.saved_model.load(saved(tmp_path / "several", one="read", two="read"))
    with pytest.raises(
        InputError, match="has the signatures one, two; accepted: next_word or serving_default"
    ):
        SavedModelPredictor(several)
    assert SavedModelPredictor(several, "two")
    takes = tf.saved_model.load(saved(tmp_path / "takes", next_word="score"))
    with pytest.raises(InputError, match="'next_word' takes ids int32, lengths int32; accepted: one input"):
        SavedModelPredictor(takes)

    class Unnamed(tf.Module):
        @tf.function(input_signature=[tf.TensorSpec([None, None], tf.int32, "ids")])
        def read(self, ids):
            return {"x": ids, "y": ids}

    module = Unnamed()
    tf.saved_model.save(module, str(tmp_path / "unnamed"), signatures={"next_word": module.read})
    with pytest.raises(InputError, match="returns x, y; accepted: log_probs or logits or probabilities"):
        SavedModelPredictor(tf.saved_model.load(str(tmp_path / "unnamed")))
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "saved_model.pb").write_bytes(b"no model")
    with pytest.raises(InputError, match=r"cannot load the SavedModel .*broken"):
        open_source(str(tmp_path / "broken"), WORDS, Settings())


def test_this_projects_exports_score_themselves(tmp_path):
    path = saved(tmp_path / "export", score="score", score_mc="score_mc", detokenize="detokenize")
    mean, average = open_source(path, WORDS, Settings(samples=4, seed=1))
    tokens = text_of(chain(), 47)
    expected = scorer_of(FunctionPredictor(reads(chain()))).score("test", Stream(tokens, ""))
    found = mean.score("test", Stream(tokens, ""))
    np.testing.assert_allclose(found.entropy, expected.entropy, rtol=1e-5)
    np.testing.assert_allclose(found.log_prob, expected.log_prob, rtol=1e-5)
    assert found.epistemic is None and found.confidence is None
    np.testing.assert_allclose(
        average.score("test", Stream(tokens, "")).epistemic, expected.entropy / 4, rtol=1e-5
    )
    figures = measure(mean, streams_of(tokens), SIZE)["streams"]["test"]
    assert figures["ece"] is None and figures["risk_coverage"] is None and figures["nll"] > 0
    with pytest.raises(InputError, match="has other words than the data"):
        open_source(path, Vocabulary(["<eos>", "<unk>", "a", "c", "b"]), Settings())
    alone = saved(tmp_path / "alone", score="score")
    with pytest.raises(InputError, match="its 'detokenize' does not give the 5 words"):
        open_source(alone, WORDS, Settings())
    mean._model = tf.saved_model.load(saved(tmp_path / "other", score="read"))
    with pytest.raises(InputError, match="signature 'score' of export cannot score test"):
        mean.score("test", Stream(tokens, ""))


@pytest.mark.slow
def test_an_export_of_this_project_says_what_its_model_says(tmp_path):
    model, words = export_models.language_model(), export_models.VOCABULARY
    (tmp_path / "assets").mkdir()
    export = export_models.language_model_export(model, tmp_path / "assets")
    write_saved_model(tmp_path / "export", export.module, export.signatures())
    settings = Settings(samples=3, seed=4)
    tokens = np.random.default_rng(0).integers(len(words), size=30).astype(np.int32)
    behind_eos = Stream(np.concatenate([[words.id("<eos>")], tokens]).astype(np.int32), "")
    exported = open_source(str(tmp_path / "export"), words, settings)
    originals = score_network(model, "model", len(words), settings)
    assert [scorer.weights for scorer in exported] == [scorer.weights for scorer in originals]
    for scorer, original in zip(exported, originals, strict=True):
        found = scorer.score("test", Stream(tokens, ""))
        expected = original.score("test", behind_eos)
        np.testing.assert_allclose(found.entropy, expected.entropy[1:], rtol=1e-4)
        np.testing.assert_allclose(found.log_prob, expected.log_prob[1:], rtol=1e-4)
        if expected.epistemic is None:
            assert found.epistemic is None
        else:
            np.testing.assert_allclose(found.epistemic, expected.epistemic[1:], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("file", ["saved_model.pb", "assets/vocabulary.txt", "variables/variables.index"])
def test_a_flipped_byte_of_an_export_is_seen(tmp_path, file):
    """A graph is whole to TensorFlow whatever its constants are, and it looks at no sum of it."""
    (tmp_path / "vocabulary.txt").write_text("<eos>\na\nb\n")
    module = tf.Module()
    module.words, module.value = tf.saved_model.Asset(str(tmp_path / "vocabulary.txt")), tf.Variable(1.0)
    module.read = tf.function(lambda ids: module.value * tf.cast(ids, tf.float32))
    read = module.read.get_concrete_function(tf.TensorSpec([None, None], tf.int32, "ids"))
    path = tmp_path / "export"
    write_saved_model(path, module, {"next_word": read}, lambda new: Checksums(new).add_all())
    content = bytearray((path / file).read_bytes())
    content[len(content) // 2] ^= 1
    (path / file).write_bytes(content)
    with pytest.raises(InputError, match=f"{file} is damaged or was changed by hand"):
        open_source(str(path), WORDS, Settings())


# Files.


def same_figures(path, known, names=("test", "reversed", "shuffled", "random")):
    _, _, streams, expected = known
    found = measure(FileScorer(str(path), "theirs", SIZE), streams, SIZE)["streams"]
    for name in streams:
        if name not in names:
            assert found[name] is None
            continue
        assert found[name].keys() == expected[name].keys()
        for field in ("entropy", "epistemic", "nll", "error", "brier", "entropy_gap", "ece", "pairwise_kl"):
            if field in expected[name]:
                assert found[name][field] == pytest.approx(expected[name][field], rel=1e-4, abs=1e-6)


def test_files_of_values_give_the_figures_of_the_model(known, tmp_path):
    records = known[0]
    fields = {
        f"{name}_{field}": value
        for name, of_stream in records.items()
        for field, value in of_stream._asdict().items()
        if field in VALUES
    }
    np.savez(tmp_path / "values.npz", **fields)
    same_figures(tmp_path / "values.npz", known)
    lines = ["stream,log_prob,entropy,aleatoric,confidence,correct,brier,reverse_information"]
    for name in ("test", "reversed"):
        of_stream = records[name]._asdict()
        rows = zip(*(of_stream[field] for field in lines[0].split(",")[1:]), strict=True)
        lines += [",".join([name, *map(repr, map(float, row))]) for row in rows]
    (tmp_path / "values.csv").write_text("\n".join(lines) + "\n")
    same_figures(tmp_path / "values.csv", known, ("test", "reversed"))


def test_files_of_probabilities_give_the_figures_of_the_model(known, tmp_path):
    probabilities = known[1]
    np.savez(
        tmp_path / "all.npz", **{f"{name}_probabilities": value for name, value in probabilities.items()}
    )
    same_figures(tmp_path / "all.npz", known)
    (tmp_path / "directory").mkdir()
    for name in ("test", "random"):
        np.save(tmp_path / "directory" / f"{name}.npy", probabilities[name].astype(np.float32))
    same_figures(tmp_path / "directory", known, ("test", "random"))
    np.save(tmp_path / "one.npy", probabilities["test"])
    same_figures(tmp_path / "one.npy", known, ("test",))
    np.save(tmp_path / "single.npy", probabilities["test"][0])
    found = FileScorer(str(tmp_path / "single.npy"), "theirs", SIZE).score("test", known[2]["test"])
    np.testing.assert_allclose(
        found.entropy, scipy.stats.entropy(probabilities["test"][0], axis=-1), rtol=1e-5
    )


def test_files_that_cannot_be_used(known, tmp_path):
    stream = known[2]["test"]
    good = np.full(599, 0.5)

    def refused(message, **arrays):
        np.savez(tmp_path / "file.npz", **arrays)
        with pytest.raises(InputError, match=message):
            FileScorer(str(tmp_path / "file.npz"), "theirs", SIZE).score("test", stream)

    refused("holds nothing for test", reversed_entropy=good)
    refused("no entropy for test", test_log_prob=-good)
    refused("unknown array in .*file.npz 'test_entropi': did you mean test_entropy", test_entropi=good)
    refused(r"entropy for test has shape \[598\]; accepted: \[599\]", test_entropy=good[1:])
    refused(
        "entropy of prediction 2 of test is 1.7; accepted: 0 to 1.609.*nats",
        test_entropy=good + 1.2 * (np.arange(599) == 2),
    )
    refused("confidence of prediction 0 of test is nan", test_entropy=good, test_confidence=good * np.nan)
    refused("log_prob of prediction 0 of test is 0.5", test_entropy=good, test_log_prob=good)
    refused(
        r"have shape \[599, 4\]; accepted: \[599, 5\], or \[samples, 599, 5\]",
        test_probabilities=np.full((599, 4), 0.25),
    )
    refused(
        "from prediction 256 of test on",
        test_probabilities=np.where(np.arange(599)[:, None] < 300, 0.2, 0.3) * np.ones(5),
    )
    for name, content, message in (
        ("damaged.npz", b"PK no archive", "cannot read .*damaged.npz"),
        ("pickled.npy", b"no array", "cannot read .*pickled.npy"),
        ("wrong.csv", b"stream,entropi\ntest,1\n", "unknown column in .*'entropi'"),
        (
            "text.csv",
            b"stream,entropy\ntest,1\ntest,high\n",
            "text.csv, line 3: entropy 'high' is not a number",
        ),
        ("short.csv", b"stream,entropy\ntest\n", "line 2: entropy None is not a number"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(InputError, match=message):
            FileScorer(str(tmp_path / name), "theirs", SIZE)
    with pytest.raises(InputError, match=r"cannot read .*missing\.csv: No such file"):
        FileScorer(str(tmp_path / "missing.csv"), "theirs", SIZE)
    os.mkfifo(tmp_path / "pipe.npz")
    with pytest.raises(InputError, match=r"cannot read .*pipe\.npz: it is a named pipe"):
        FileScorer(str(tmp_path / "pipe.npz"), "theirs", SIZE)
    np.savez(tmp_path / "no_test.npz", test_entropy=good)
    scorer = FileScorer(str(tmp_path / "no_test.npz"), "theirs", SIZE)
    scorer._values = {}
    with pytest.raises(InputError, match="theirs says nothing of the test text"):
        measure(scorer, known[2], SIZE)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_any_flipped_byte_of_an_archive_is_seen_or_harmless(tmp_path, save):
    path, values = tmp_path / "values.npz", np.linspace(0.5, 1.0, 40)
    save(path, test_entropy=values)
    sound = path.read_bytes()
    for place in range(len(sound)):
        path.write_bytes(sound[:place] + bytes([sound[place] ^ 1 << place % 8]) + sound[place + 1 :])
        try:
            found = FileScorer(str(path), "theirs", SIZE)._values
        except InputError as error:
            assert "\n" not in str(error)
        else:
            np.testing.assert_array_equal(found["test"]["entropy"], values)
