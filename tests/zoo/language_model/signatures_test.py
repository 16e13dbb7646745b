"""`zoo.language_model.signatures` and `zoo.signatures.words`: every signature, before it is saved."""

import numpy as np
import pytest
import scipy.special
import tensorflow as tf
from export_models import VOCABULARY, arrays, language_model, language_model_export

from tfp_bayesrnn import InputError, noise
from tfp_bayesrnn.model.evaluation import StreamEvaluator
from tfp_bayesrnn.posterior import ambient
from zoo.data.vocabulary import Vocabulary
from zoo.language_model import signatures
from zoo.language_model.continuations import Generator
from zoo.language_model.prompts import as_text, encode_prompt
from zoo.signatures.sampling import MAX_WORDS
from zoo.signatures.words import Words

IDS = np.array([[1, 3, 4, 0, 5], [6, 2, 99, 99, 99], [99, 99, 99, 99, 99]], np.int32)
LENGTHS = np.array([5, 2, 0], np.int32)
SETTINGS = {
    **{"max_words": 6, "temperature": 1.0, "top_k": 0, "top_p": 1.0},
    **{"end_at_eos": False, "allow_unk": True, "seed": 5},
}


@pytest.fixture(scope="module")
def model():
    return language_model()


@pytest.fixture(scope="module")
def export(model, tmp_path_factory):
    return language_model_export(model, tmp_path_factory.mktemp("words"))


@pytest.fixture(scope="module")
def call(export):
    """A signature by name: takes its inputs by name, gives its outputs as arrays."""
    signatures = export.signatures()

    def run(name, **inputs):
        specs = {spec.name: spec for spec in signatures[name].input_signature}
        assert set(specs) == set(inputs)
        return arrays(
            signatures[name](
                **{name: tf.constant(value, specs[name].dtype) for name, value in inputs.items()}
            )
        )

    return run


def log_softmax_of(model, ids, draw):
    """log p, [N, T, V], of the word after each of the ids, straight from the network."""
    with ambient.under(draw):
        return scipy.special.log_softmax(
            model.network(ids, training=False).numpy().astype(np.float64), axis=-1
        )


def behind_eos(ids):
    return np.concatenate([np.zeros([len(ids), 1], np.int32), ids[:, :-1]], axis=1)


def test_score(model, call):
    found = call("score", ids=IDS, lengths=LENGTHS)
    ids, mask = np.where(IDS == 99, 0, IDS), np.arange(5) < LENGTHS[:, None]
    expected = log_softmax_of(model, behind_eos(ids), model.posterior.mean())
    chosen = np.take_along_axis(expected, ids[:, :, None], axis=-1)[:, :, 0]
    np.testing.assert_allclose(found["log_probs"], chosen * mask, atol=1e-5)
    entropy = scipy.special.entr(np.exp(expected)).sum(axis=-1)
    np.testing.assert_allclose(found["entropy"], entropy * mask, atol=1e-5)
    np.testing.assert_array_equal(found["mask"], mask)
    again = call("serving_default", ids=IDS, lengths=LENGTHS)
    np.testing.assert_array_equal(again["log_probs"], found["log_probs"])


@pytest.mark.slow
def test_score_of_nothing(call):
    for rows, steps in ((0, 3), (2, 0), (0, 0)):
        inputs = {"ids": np.zeros([rows, steps]), "lengths": np.zeros([rows])}
        assert call("score", **inputs)["log_probs"].shape == (rows, steps)
        assert call("score_mc", **inputs, num_samples=2, seed=1)["entropy"].shape == (rows, steps)
    assert call("generate_text_mc", text=[], **SETTINGS, num_samples=2)["text"].shape == (0,)


def test_samples_are_scored_as_the_evaluator_does(model, call):
    ids = np.random.default_rng(0).integers(0, len(VOCABULARY), [1, 30])
    found = call("score_mc", ids=ids, lengths=[30], num_samples=3, seed=11)
    window = ({"inputs": behind_eos(ids), "is_first": np.array([True])}, ids.astype(np.int32))
    evaluator = StreamEvaluator(model)
    assert -found["log_probs"].mean() == pytest.approx(evaluator.average([window], 3, seed=11).nll, rel=1e-5)
    root = noise.derive(noise.make_seed(11), -1)
    each = np.stack(
        [
            np.exp(log_softmax_of(model, behind_eos(ids), model.posterior.sample(noise.derive(root, sample))))
            for sample in range(3)
        ]
    )
    total, aleatoric = (scipy.special.entr(p).sum(axis=-1) for p in (each.mean(axis=0), each))
    np.testing.assert_allclose(found["entropy"], total, atol=1e-5)
    np.testing.assert_allclose(found["mutual_information"], total - aleatoric.mean(axis=0), atol=1e-5)
    other = call("score_mc", ids=ids, lengths=[30], num_samples=3, seed=12)
    assert np.abs(other["log_probs"] - found["log_probs"]).max() > 1e-3


class TestLoadedDraws:
    @pytest.fixture
    def own(self, model, tmp_path):
        """An export of its own, since draws that are kept change it; its signatures."""
        made = language_model_export(model, tmp_path)
        return made, made.signatures()

    @staticmethod
    def scores(own, samples, seed):
        given = {"num_samples": tf.constant(samples), "seed": tf.constant(seed)}
        return arrays(own[1]["score_mc"](ids=tf.constant(IDS), lengths=tf.constant(LENGTHS), **given))

    @staticmethod
    def load(own, samples, seed):
        found = own[1]["load_draws"](num_samples=tf.constant(samples), seed=tf.constant(seed))
        return int(found["num_samples"])

    def test_the_same_answers(self, own):
        asked = [(3, 4), (2, 4), (5, 4), (3, 9)]
        fresh = [self.scores(own, *each) for each in asked]
        assert self.load(own, 3, 4) == 3
        for expected, each in zip(fresh, asked, strict=True):
            found = self.scores(own, *each)
            assert all(np.array_equal(found[name], expected[name]) for name in expected)

    def test_those_that_are_kept_are_used(self, own):
        fresh = self.scores(own, 2, 4)["log_probs"]
        self.load(own, 2, 4)
        kept = own[0]._posterior._cache._values
        for variable in kept:
            variable.assign(tf.zeros_like(variable))
        assert np.abs(self.scores(own, 2, 4)["log_probs"] - fresh).max() > 1e-3
        assert self.load(own, 0, 0) == 0
        assert not any(int(tf.size(variable)) for variable in kept)
        np.testing.assert_array_equal(self.scores(own, 2, 4)["log_probs"], fresh)

    def test_fewer_than_none_are_refused(self, own):
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"(?s)must not be negative.*-1"):
            self.load(own, -1, 0)


@pytest.mark.slow
def test_long_rows_are_read_piece_by_piece(model, call, tmp_path, monkeypatch):
    ids = np.random.default_rng(1).integers(0, len(VOCABULARY), [2, 10])
    inputs = {"ids": tf.constant(ids, tf.int32), "lengths": tf.constant([10, 7])}
    sampled = {"num_samples": tf.constant(2), "seed": tf.constant(3)}
    monkeypatch.setattr(signatures, "_AT_ONCE", 3 * 2 * len(VOCABULARY))  # Pieces of 3, 3, 3 and 1 words.
    pieces = language_model_export(model, tmp_path).signatures()
    for name, more in (("score", {}), ("score_mc", sampled)):
        whole = call(name, **inputs, **more)
        for key, value in arrays(pieces[name](**inputs, **more)).items():
            np.testing.assert_allclose(value, whole[key], atol=1e-6)


def test_the_next_word_step_by_step(call):
    ids = np.array([[1, 3, 4], [5, 5, 2]], np.int32)
    expected = call("score", ids=ids, lengths=[3, 3])["log_probs"]
    state = call("initial_state", rows=2)["state"]
    assert state.shape == (2, 16) and not state.any()
    before = behind_eos(ids)
    for time in range(3):
        found = call("next", tokens=before[:, time], state=state)
        state = found["state"]
        chosen = found["log_probs"][np.arange(2), ids[:, time]]
        np.testing.assert_allclose(chosen, expected[:, time], atol=1e-5)
        np.testing.assert_allclose(np.exp(found["log_probs"]).sum(axis=1), 1.0, atol=1e-5)


@pytest.mark.slow
def test_half_precision_computes_and_hands_over_float32(tmp_path):
    model = language_model(dtype="mixed_bfloat16")
    signatures = language_model_export(model, tmp_path).signatures()
    ids = np.array([[1, 3, 4]], np.int32)
    inputs = {"ids": tf.constant(ids), "lengths": tf.constant([3])}
    expected = signatures["score"](**inputs)["log_probs"].numpy()
    logits = model.network(behind_eos(ids)).numpy().astype(np.float32)
    chosen = tf.gather(tf.nn.log_softmax(logits), ids, batch_dims=2)
    # Of 8 bits, and summed in another order by another kernel.
    np.testing.assert_allclose(expected, chosen, atol=0.03)
    state = signatures["initial_state"](rows=tf.constant(1))["state"]
    for time in range(3):
        found = signatures["next"](tokens=behind_eos(ids)[:, time], state=state)
        state = found["state"]
        assert state.dtype == tf.float32
        np.testing.assert_allclose(found["log_probs"][0, ids[0, time]], expected[0, time], atol=0.03)
    sampled = signatures["score_mc"](**inputs, num_samples=tf.constant(2), seed=tf.constant(1))
    assert np.all(sampled["log_probs"].numpy() < 0.0) and sampled["entropy"].dtype == tf.float32


PROMPTS = ["a dog runs", "far\nthe dog", "", "a\n"]


@pytest.mark.slow(but=["False-0-sampling5"])
@pytest.mark.parametrize(
    "sampling",
    [
        {"temperature": 0.0},
        {},
        {"temperature": 0.5},
        {"top_k": 3},
        {"temperature": 2.0, "top_p": 0.6},
        {"temperature": 0.7, "top_k": 5, "top_p": 0.8},
    ],
)
@pytest.mark.parametrize("samples", [0, 3])
@pytest.mark.parametrize("allow_unk", [False, True])
def test_generation_is_that_of_the_generator(model, call, sampling, samples, allow_unk):
    forbidden = () if allow_unk else ("<unk>",)
    of_generator = {"samples": samples, "seed": 5, "sampling": sampling}
    generator = Generator(model, VOCABULARY, max_words=6, forbidden=forbidden, **of_generator)
    settings = SETTINGS | sampling | {"allow_unk": allow_unk}
    if samples:
        found = call("generate_text_mc", text=PROMPTS, **settings, num_samples=samples)
    else:
        found = call("generate_text", text=PROMPTS, **settings)
    for row, (continuation,) in enumerate(generator.generate(PROMPTS)):
        words = tuple(word.decode() for word in found["words"][row])
        assert words == continuation.words and len(words) == found["lengths"][row] == 6
        assert found["text"][row].decode() == continuation.text
        np.testing.assert_allclose(found["log_probs"][row], continuation.log_probs, atol=1e-5)
        np.testing.assert_allclose(found["entropy"][row], continuation.entropies, atol=1e-5)
        if samples:
            information = found["mutual_information"][row]
            np.testing.assert_allclose(information, continuation.mutual_information, atol=1e-5)
    assert samples or "mutual_information" not in found


def test_unk_comes_only_where_it_may(call):
    found = {
        may: call("generate_text", text=PROMPTS, **SETTINGS | {"max_words": 60, "allow_unk": may})["ids"]
        for may in (False, True)
    }
    unknown = VOCABULARY.id("<unk>")
    assert np.any(found[True] == unknown) and not np.any(found[False] == unknown)


@pytest.mark.slow
def test_generation_of_ids_is_that_of_text(call):
    ids, lengths = np.array([[1, 3, 4], [5, 99, 99]]), np.array([3, 1])
    texts = ["a dog runs", "far"]
    one = call("generate", ids=ids, lengths=lengths, **SETTINGS)
    other = call("generate_text", text=texts, **SETTINGS)
    one_mc = call("generate_mc", ids=ids, lengths=lengths, **SETTINGS, num_samples=2)
    other_mc = call("generate_text_mc", text=texts, **SETTINGS, num_samples=2)
    for key in one_mc:
        np.testing.assert_array_equal(one_mc[key], other_mc[key])
        assert key == "mutual_information" or np.array_equal(one[key], other[key])
    assert not np.array_equal(call("generate_text", text=texts, **SETTINGS | {"seed": 6})["ids"], one["ids"])


def test_eos_ends_where_it_is_asked_to(call):
    settings = SETTINGS | {"max_words": 40}
    on, ended = (
        call("generate_text", text=["a dog", "", "far"], **settings | {"end_at_eos": end})
        for end in (False, True)
    )
    for row in range(3):
        assert on["lengths"][row] == 40
        first = int(np.argmax(on["ids"][row] == 0)) + 1  # The first <eos> is the last word.
        assert ended["lengths"][row] == first < 40
        np.testing.assert_array_equal(ended["ids"][row, :first], on["ids"][row, :first])
        assert not ended["log_probs"][row, first:].any() and not any(ended["words"][row, first:])
        assert ended["text"][row].endswith(b"\n")


TEXTS = [
    "",
    " a  dog\truns ",
    "far\n\naway\n",
    "\n",
    "a\u00a0dog\u2003far\x85away\x1crun",
    "Dog <unk> dog <eos> a",
]


def test_text_is_read_and_written_as_prompts_are(call):
    found = call("tokenize", text=TEXTS)
    texts = call("detokenize", ids=found["ids"], lengths=found["lengths"])["text"]
    for row, text in enumerate(TEXTS):
        ids = encode_prompt(VOCABULARY, text) if text else []
        length = found["lengths"][row]
        np.testing.assert_array_equal(found["ids"][row, :length], ids)
        words = VOCABULARY.decode(ids)
        assert [word.decode() for word in found["words"][row, :length]] == words
        assert texts[row].decode() == as_text(words)


def test_score_of_text(call):
    texts = ["a dog", "far\nrubbish runs"]
    found = call("score_text", text=texts)
    ids, lengths = np.array([[1, 3, 0, 0], [5, 0, 2, 4]]), np.array([2, 4])
    np.testing.assert_array_equal(found["ids"], ids)
    np.testing.assert_array_equal(found["lengths"], lengths)
    assert found["words"].tolist() == [[b"a", b"dog", b"", b""], [b"far", b"<eos>", b"<unk>", b"runs"]]
    scores = call("score", ids=ids, lengths=lengths)
    for key in scores:
        np.testing.assert_allclose(found[key], scores[key], atol=1e-6)
    sampled = call("score_text_mc", text=texts, num_samples=2, seed=4)
    scores = call("score_mc", ids=ids, lengths=lengths, num_samples=2, seed=4)
    for key in scores:
        np.testing.assert_allclose(sampled[key], scores[key], atol=1e-6)


PROMPT = {"ids": [[1, 2]], "lengths": [2]}


@pytest.mark.parametrize(
    ("name", "inputs", "message"),
    [
        ("score", {"ids": [[1, 7]], "lengths": [2]}, r"ids must lie between 0 and 6. Received: id =\] \[7\]"),
        (
            "score",
            {"ids": [[1, -1]], "lengths": [2]},
            r"ids must lie between 0 and 6. Received: id =\] \[-1\]",
        ),
        ("score", {"ids": [[1, 2]], "lengths": [3]}, "lengths must lie between 0 and the number of columns"),
        ("score", {"ids": [[1, 2]], "lengths": [-1]}, "lengths must lie between 0 and"),
        ("score", {"ids": [[1, 2]], "lengths": [1, 1]}, "must have as many rows"),
        ("score_mc", PROMPT | {"num_samples": 0, "seed": 1}, r"num_samples must be at least 1.*\[0\]"),
        ("next", {"tokens": [9], "state": np.zeros([1, 16])}, "ids must lie between 0 and 6"),
        ("next", {"tokens": [1, 1], "state": np.zeros([1, 16])}, "tokens and state must have as many rows"),
        ("initial_state", {"rows": -1}, "rows must not be negative"),
        ("detokenize", {"ids": [[8]], "lengths": [1]}, "ids must lie between 0 and 6"),
        ("generate", {"ids": [[1]], "lengths": [0]} | SETTINGS, "lengths must lie between 1 and"),
        ("generate", PROMPT | SETTINGS | {"max_words": 0}, f"max_words must lie between 1 and {MAX_WORDS}"),
        ("generate", PROMPT | SETTINGS | {"max_words": MAX_WORDS + 1}, "max_words must lie between 1"),
        ("generate", PROMPT | SETTINGS | {"temperature": -0.5}, "temperature must be 0, or lie between"),
        (
            "generate",
            PROMPT | SETTINGS | {"temperature": np.inf},
            "temperature must be 0, or lie between",
        ),
        ("generate", PROMPT | SETTINGS | {"top_k": -1}, "top_k must not be negative"),
        ("generate", PROMPT | SETTINGS | {"top_p": 0.0}, "top_p must be more than 0"),
        ("generate", PROMPT | SETTINGS | {"top_p": 1.5}, "top_p must be more than 0"),
        ("generate_mc", PROMPT | SETTINGS | {"num_samples": 0}, "num_samples must be at least 1"),
    ],
)
def test_what_is_not_accepted(call, name, inputs, message):
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        call(name, **inputs)


def test_a_word_outside_a_vocabulary_without_unk(tmp_path):
    words = Words(Vocabulary(["<eos>", "a"]), tmp_path)
    encode = tf.function(words.encode, [tf.TensorSpec([None], tf.string)], autograph=False)
    assert encode(tf.constant(["a a", ""]))[1].numpy().tolist() == [2, 0]
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"which has no <unk>:\] \[.*cat"):
        encode(tf.constant(["a cat"]))


def test_text_in_lower_case(tmp_path):
    words = Words(Vocabulary(["<eos>", "\u00e9t\u00e9", "a"]), tmp_path, lowercase=True)
    assert words.encode(tf.constant(["A \u00c9T\u00c9\na"]))[0].numpy().tolist() == [[2, 1, 0, 2]]


def test_a_vocabulary_without_line_ends(tmp_path):
    words = Words(Vocabulary(["a", "b"]), tmp_path)
    assert words.encode(tf.constant(["a\nb"]))[0].numpy().tolist() == [[0, 1]]
    model = language_model(vocabulary=Vocabulary(["a", "b"]))
    with pytest.raises(InputError, match="has no <eos> cannot be exported"):
        language_model_export(model, tmp_path, Vocabulary(["a", "b"]))


def test_without_scales_there_are_no_samples(tmp_path):
    signatures = language_model_export(language_model(posterior=None), tmp_path).signatures()
    assert {"score", "next", "generate"} <= set(signatures)
    assert not [name for name in signatures if name.endswith("_mc")]
