import importlib.util
import json
import math
import os
import re
import shutil
import stat
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from tfp_bayesrnn.errors import InputError
from zoo.captioning import metrics
from zoo.captioning.metrics import score

needs_scorers = pytest.mark.skipif(
    importlib.util.find_spec("pycocoevalcap") is None, reason="pycocoevalcap is not installed"
)


def scored(pairs, **options):
    """Scores of texts: (candidate, references) for each image."""
    references = {f"{index}.jpg": [text.split() for text in texts] for index, (_, texts) in enumerate(pairs)}
    candidates = {f"{index}.jpg": tuple(text.split()) for index, (text, _) in enumerate(pairs)}
    return score(references, candidates, **options)


@needs_scorers
def test_bleu_counts_clipped_ngrams_of_all_images_together():
    scores = scored([("the the the the", ["the cat the mat"]), ("a b c d e", ["a b x d e", "y b c y y"])])
    # 1-grams: 2 of 4, and 5 of 5; 2-grams: 0 of 3, and ab, bc, de of 4; no 3-gram is right.
    assert scores.bleu1 == pytest.approx(7 / 9, abs=1e-6)
    assert scores.bleu2 == pytest.approx(math.sqrt(7 / 9 * 3 / 7), abs=1e-6)
    assert scores.bleu3 == pytest.approx(0.0, abs=1e-4)
    assert scores.bleu4 == pytest.approx(0.0, abs=1e-3)


@needs_scorers
def test_bleu_punishes_captions_shorter_than_the_closest_reference():
    scores = scored([("a b c d e", ["a b c d e f g h i j k", "a b c d e f g"])])
    penalty = math.exp(1 - 7 / 5)
    for value in (scores.bleu1, scores.bleu2, scores.bleu3, scores.bleu4, scores.per_image["bleu4"][0]):
        assert value == pytest.approx(penalty, abs=1e-6)
    assert scored([("a b c d e", ["a b c d", "a b c d e f g h"])]).bleu1 == pytest.approx(1.0)


@needs_scorers
def test_rouge_l_is_the_f_measure_of_the_longest_common_subsequence():
    scores = scored([("a b c", ["a x b c d"]), ("a b c", ["a b", "c z"]), ("a", ["b"])])

    def f_measure(precision, recall):
        return (1 + 1.2**2) * precision * recall / (recall + 1.2**2 * precision)

    # Precision and recall are each the best over the references.
    expected = [f_measure(1, 3 / 5), f_measure(2 / 3, 1), 0.0]
    np.testing.assert_allclose(scores.per_image["rouge_l"], expected, rtol=1e-12)
    assert scores.rouge_l == pytest.approx(np.mean(expected))


@needs_scorers
def test_cider_of_identical_and_of_longer_captions():
    scores = scored(
        [
            ("a b c d", ["a b c d"]),
            ("e f", ["e f"]),
            ("g h i j k l", ["g h i j"]),
            ("m n o p", ["m n o p", "q r s t"]),
        ]
    )
    # The third: each n-gram weighs the same, the norms are those of 6, 5, 4, 3 and of 4, 3, 2, 1 n-grams;
    # its length is off by 2. The fourth: the mean over references. The second has no 3-gram and no 4-gram.
    cosines = [4 / math.sqrt(6 * 4), 3 / math.sqrt(5 * 3), 2 / math.sqrt(4 * 2), 1 / math.sqrt(3 * 1)]
    expected = [10.0, 5.0, 10 * np.mean(cosines) * math.exp(-(2**2) / (2 * 6**2)), 5.0]
    np.testing.assert_allclose(scores.per_image["cider"], expected, rtol=1e-12)
    assert scores.cider == pytest.approx(np.mean(expected))
    assert scores.notes == ()


@needs_scorers
def test_figures_of_each_image_are_in_the_order_of_the_candidates(capfd):
    references = {name: [[name, "is", "a", "letter"]] for name in "abc"}
    good, bad = ["is", "a", "letter"], ["z", "z", "z"]
    scores = score(references, {"c": ["c", *good], "a": bad, "b": ["b", *good]})
    for name in ("cider", "rouge_l", "bleu4"):
        figures = scores.per_image[name]
        assert figures.shape == (3,) and figures.dtype == np.float64
        assert figures[0] > 0.9 and figures[1] < 0.1 and figures[2] > 0.9
    assert capfd.readouterr().out == ""


@needs_scorers
def test_the_record_for_the_results():
    scores = scored([("a b c d", ["a b c d"]), ("", ["e f g"])])
    record = scores.as_record()
    assert set(record) == {"images", "bleu1", "bleu2", "bleu3", "bleu4", "rouge_l", "cider"}
    assert record["images"] == 2 and record["cider"] == scores.cider == pytest.approx(5.0)
    assert json.loads(json.dumps(record)) == record


@needs_scorers
def test_cider_of_one_image_is_explained():
    scores = scored([("a b c d", ["a b c d"])])
    assert scores.cider == 0.0 and scores.bleu4 == pytest.approx(1.0)
    assert scores.notes == (
        "CIDEr of a single image is 0 whatever its caption: words are weighted between images",
    )


@needs_scorers
@pytest.mark.parametrize(
    ("references", "candidates", "message"),
    [
        ({}, {}, "captions of 0 images cannot be scored"),
        ({"a": [["x"]], "b": [["x"]]}, {"a": ["x"]}, "there is no caption to score for 'b': every image"),
        ({"a": [["x"]]}, {"a": ["x"], "b": ["x"]}, "there is no references for 'b'"),
        ({name: [["x"]] for name in "abcde"}, {"a": ["x"]}, "for 'b', 'c', 'd' and 1 more: every"),
        ({"a": []}, {"a": ["x"]}, "'a' has no reference: at least one is needed"),
        ({"a": [["x"], []]}, {"a": ["x"]}, "reference 1 of 'a' has no words"),
        (
            {"a": [["x", "two words"]]},
            {"a": ["x"]},
            "reference 0 of 'a' has the word 'two words': it must be",
        ),
        ({"a": [["x"]]}, {"a": ["x", ""]}, "the caption of 'a' has the word ''"),
    ],
)
def test_captions_that_cannot_be_scored(references, candidates, message):
    with pytest.raises(InputError, match=re.escape(message)):
        score(references, candidates)


@needs_scorers
def test_texts_are_no_captions():
    with pytest.raises(
        ValueError, match=r"reference 0 of 'a' should be a sequence of words\. Received: 'a dog'"
    ):
        score({"a": ["a dog"]}, {"a": ["a", "dog"]})


def test_without_the_package_the_error_names_the_extra(monkeypatch):
    for name in ("pycocoevalcap", "pycocoevalcap.bleu.bleu"):
        monkeypatch.setitem(sys.modules, name, None)
    for call in (metrics.require, lambda: scored([("a", ["a"])])):
        with pytest.raises(InputError, match=r"need the package pycocoevalcap .*'tfp_bayesrnn\[captions\]'"):
            call()


@pytest.fixture
def java(tmp_path, monkeypatch):
    """A function that makes a Python program the only `java` on PATH."""

    def install(program):
        path = tmp_path / "java"
        path.write_text(f"#!{sys.executable}\nimport os, sys, time\n{program}")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    monkeypatch.setenv("PATH", str(tmp_path))
    return install


PAIRS = [("a b c d", ["a b c d", "a b"]), ("e f", ["e f"])]


@needs_scorers
def test_without_java_a_note_says_so(java):
    scores = scored(PAIRS, meteor=True, spice=True)
    assert scores.meteor is None and scores.spice is None and "meteor" not in scores.as_record()
    assert scores.notes == (
        "METEOR is absent: it needs Java, and there is no program java on PATH",
        "SPICE is absent: it needs Java, and there is no program java on PATH",
    )
    assert scores.cider > 0


@needs_scorers
def test_the_figure_that_java_gives(java, tmp_path):
    java(
        "asked = []\n"
        "for line in sys.stdin:\n"
        "    asked.append(line)\n"
        "    if line.startswith('EVAL'):\n"
        f"        open({str(tmp_path / 'asked')!r}, 'w').writelines(asked)\n"
        "        print('0.1\\n0.2\\n0.375', flush=True)\n"
        "    else:\n"
        "        print('1 2 3', flush=True)\n"
    )
    scores = scored(PAIRS, meteor=True)
    assert scores.meteor == scores.as_record()["meteor"] == 0.375 and scores.notes == ()
    assert (tmp_path / "asked").read_text().splitlines() == [
        "SCORE ||| a b c d ||| a b ||| a b c d",
        "SCORE ||| e f ||| e f",
        "EVAL ||| 1 2 3 ||| 1 2 3",
    ]


@needs_scorers
@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("sys.exit(1)", r"its scorer failed \(\w+Error: .+\)"),
        (
            "for line in sys.stdin: print(*['nan'] * (3 if 'EVAL' in line else 1), sep='\\n', flush=True)",
            r"its scorer failed \(it gave no number\)",
        ),
    ],
)
def test_a_java_that_fails_leaves_a_note(java, program, reason):
    java(program)
    scores = scored(PAIRS, meteor=True)
    assert scores.meteor is None and scores.cider > 0
    assert len(scores.notes) == 1 and re.fullmatch(f"METEOR is absent: {reason}", scores.notes[0])


@needs_scorers
def test_a_java_that_hangs_is_ended(java, tmp_path, monkeypatch):
    monkeypatch.setattr(metrics, "JAVA_LIMIT_SECONDS", 2)
    java(f"open({str(tmp_path / 'id')!r}, 'w').write(str(os.getpid()))\ntime.sleep(100)")
    start = time.monotonic()
    scores = scored(PAIRS, meteor=True)
    assert time.monotonic() - start < 20
    assert scores.meteor is None and scores.notes == ("METEOR is absent: its Java was ended after 2 seconds",)
    process = Path(f"/proc/{(tmp_path / 'id').read_text()}/stat")
    while process.exists() and process.read_text().rsplit(")")[-1].split()[0] != "Z":
        assert time.monotonic() - start < 20
        time.sleep(0.05)


@needs_scorers
def test_spice_is_not_downloaded_behind_ones_back(java, tmp_path, monkeypatch):
    java("sys.exit(1)")
    folder = tmp_path / "spice" / "lib"
    folder.mkdir(parents=True)
    spec = importlib.util.spec_from_loader("pycocoevalcap", None, is_package=True)
    spec.submodule_search_locations = [str(tmp_path)]
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    scores = scored(PAIRS, spice=True)
    assert scores.spice is None
    assert scores.notes == (
        f"SPICE is absent: it needs stanford-corenlp-3.6.0.jar in {folder}; "
        "python -m pycocoevalcap.spice.get_stanford_models downloads it",
    )


@pytest.fixture
def coco():
    """References and candidates of a thousand COCO images, tokenised."""
    beside = Path(__file__).resolve().parents[4] / "shared" / "data"
    folder = Path(os.environ.get("TFP_BAYESRNN_SHARED_DATA", beside)) / "caption_metrics"
    if not folder.is_dir():
        pytest.skip(f"no captions of COCO images in {folder}")
    references, candidates = (json.loads((folder / f"{name}.json").read_text()) for name in ("gts", "res"))
    return (
        {name: [text.split() for text in texts] for name, texts in references.items()},
        {name: tuple(texts[0].split()) for name, texts in candidates.items()},
    )


@pytest.mark.slow
@pytest.mark.data
@needs_scorers
def test_the_figures_of_real_captions_are_the_reference_scorers(coco):
    record = score(*coco).as_record()
    assert record.pop("images") == 1000
    assert record == pytest.approx(
        {
            "bleu1": 0.57940,
            "bleu2": 0.40439,
            "bleu3": 0.27854,
            "bleu4": 0.19083,
            "rouge_l": 0.39625,
            "cider": 0.59979,
        },
        abs=1e-4,
    )


@pytest.mark.slow
@pytest.mark.data
@needs_scorers
@pytest.mark.skipif(shutil.which("java") is None, reason="there is no Java")
def test_meteor_of_real_captions_is_the_reference_scorers(coco):
    scores = score(*coco, meteor=True)
    assert scores.notes == ()
    assert scores.meteor == pytest.approx(0.19525, abs=1e-4)
