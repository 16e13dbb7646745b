"""Captioning figures: what uncertainty says of quality, captions of a split, the table."""

import math

import numpy as np
import pytest
from captioning_models import MAX_WORDS, SIZE, VOCABULARY, captioning_model, split_of

from tfp_bayesrnn.prediction import uncertainty
from tfp_bayesrnn.prediction.uncertainty import TargetScores
from zoo.captioning.batches import CaptionBatches
from zoo.captioning.caption_search import Captioner, Captions
from zoo.captioning.results import caption_split, summary, what_uncertainty_says


def captions(entropies, informations, lengths, log_probs):
    words = [("a",) * length for length in lengths]
    of_words = TargetScores(np.zeros_like(entropies), np.asarray(entropies), np.asarray(informations))
    return Captions(words, np.asarray(log_probs), of_words, np.asarray(lengths))


def test_what_uncertainty_says():
    """Per word, so that long captions are not uncertain for being long; a constant signal says nothing."""
    cider = np.array([0.9, 0.7, 0.4, 0.1])
    found = what_uncertainty_says(
        captions(
            entropies=[[1.0, 1.0, 1.0], [1.2, 0.0, 0.0], [1.5, 1.5, 0.0], [2.0, 0.0, 0.0]],
            informations=np.zeros([4, 3]),
            lengths=[3, 1, 2, 1],
            log_probs=[-6.0, -1.0, -4.0, -3.0],
        ),
        cider,
    )
    assert set(found) == {"mean_cider", "best_area", "entropy", "negative_log_probability"}
    assert found["mean_cider"] == pytest.approx(cider.mean())
    best = np.mean([cider[:kept].mean() for kept in (1, 2, 3, 4)])
    assert found["best_area"] == pytest.approx(uncertainty.area_under_risk_coverage(-cider, cider))
    assert found["best_area"] == pytest.approx(best, abs=0.05)
    entropy = found["entropy"]
    assert entropy["rank_correlation"] == pytest.approx(-1.0)
    assert entropy["area"] == pytest.approx(found["best_area"])
    kept = [1, 1, 2, 2, 2, 3, 3, 4, 4, 4]  # The least uncertain of the four.
    assert entropy["curve"] == pytest.approx([cider[:count].mean() for count in kept])
    low, high = entropy["rank_correlation_95"]
    assert -1.0 <= low <= high <= 1.0
    per_word = np.array([2.0, 1.0, 2.0, 3.0])
    expected = uncertainty.rank_correlation(per_word, cider)
    assert found["negative_log_probability"]["rank_correlation"] == pytest.approx(expected)


def test_an_empty_caption_has_no_uncertainty():
    found = captions([[0.0, 0.0]], [[0.0, 0.0]], [0], [-math.inf])
    assert found.uncertainty().tolist() == [0.0]


@pytest.mark.slow
def test_captions_of_a_split():
    """In order, without the images that fill the last minibatch."""
    split, captioner = split_of(5), Captioner(captioning_model(), VOCABULARY, MAX_WORDS, samples=2, beam=1)
    by_two, whole = (
        caption_split(captioner, CaptionBatches(split, VOCABULARY, batch, SIZE, MAX_WORDS), "captions")
        for batch in (2, 5)
    )
    assert by_two.words == whole.words and len(whole.words) == 5
    for one, other in zip(
        (by_two.log_probs, by_two.lengths, *by_two.of_words),
        (whole.log_probs, whole.lengths, *whole.of_words),
        strict=True,
    ):
        assert len(one) == 5
        np.testing.assert_allclose(one, other, atol=1e-5)


RESULTS = {
    "preset": "some_preset",
    "method": "bbb",
    "kl_weight": 1.0,
    "epochs": 3,
    "epochs_trained": 4,
    "valid": {"weights": "mean", "perplexity": 9.876},
    "test": {"weights": "mean", "perplexity": 8.765, "bleu4": 0.2012, "cider": 0.8951},
    "test_uncertainty": {"entropy": {"rank_correlation": -0.4, "rank_correlation_95": [-0.5, -0.3]}},
}


class TestTable:
    def test_figures(self):
        first, head, valid, test, uncertainty = summary(RESULTS).splitlines()
        assert first == "some_preset (bbb), best of 4 epochs: epoch 3"
        assert head.split() == ["split", "weights", "perplexity", "BLEU-4", "CIDEr"]
        assert valid.split() == ["valid", "mean", "9.88"]
        assert test.split() == ["test", "mean", "8.77", "20.1", "89.5"]
        assert uncertainty.strip().startswith("mean: rank correlation")
        assert uncertainty.endswith("-0.400 (-0.500 to -0.300)")

    @pytest.mark.parametrize("method", ["bbb", "bbb_sharpened"])
    def test_a_tempered_posterior_is_called_so(self, method):
        assert f"({method}, tempered: KL weight 0.1)" in summary(
            {**RESULTS, "method": method, "kl_weight": 0.1}
        )

    def test_a_model_without_a_posterior_is_not_tempered(self):
        assert "tempered" not in summary({**RESULTS, "method": "dropout", "kl_weight": 0.1})

    def test_a_run_without_scores(self):
        table = summary({**RESULTS, "test": {"weights": "mean", "perplexity": 8.0}, "test_uncertainty": None})
        assert table.splitlines()[1].split() == ["split", "weights", "perplexity"]
        assert len(table.splitlines()) == 4

    def test_a_bound_is_shown_with_its_kl(self):
        bound = {"batch": 4, "perplexity_bound": 7.5, "standard_error": 0.25, "kl_per_token": 0.0123}
        line = summary({**RESULTS, "test_sharpened_bound": bound}).splitlines()[4]
        assert "batch 4: perplexity <= 7.50 ± 0.25, of it KL 0.0123 nats/word" in line
