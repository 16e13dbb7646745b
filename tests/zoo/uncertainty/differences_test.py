"""Differences between models under a bootstrap of windows, against drawn texts that are scored anew."""

import csv
import io
import json

import numpy as np
import pytest
from uncertainty_models import chain, reads, scorer_of, text_of

from tfp_bayesrnn.prediction import uncertainty
from zoo.uncertainty.differences import _counts, differences, replicate
from zoo.uncertainty.files_of_results import as_csv, as_json, differences_table, table
from zoo.uncertainty.predictors import FunctionPredictor
from zoo.uncertainty.records import Records
from zoo.uncertainty.streams import Stream

WINDOW = 6


def records_of(transitions, length=200):
    scorer = scorer_of(FunctionPredictor(reads(transitions)))
    texts = {"test": text_of(chain(), length), "other": text_of(chain(seed=9), length + 40, seed=3)}
    return {name: scorer.score(name, Stream(tokens, "")) for name, tokens in texts.items()}


def drawn(records, counts):
    """Records with each window as often as it was drawn."""
    places = np.concatenate(
        [
            np.arange(place * WINDOW, (place + 1) * WINDOW)
            for place, count in enumerate(counts)
            for _ in range(int(count))
        ]
    )
    return Records(*(None if values is None else values[places] for values in records))


@pytest.mark.parametrize("rounded", [False, True])
def test_replicates_are_the_figures_of_the_texts_that_were_drawn(rounded):
    records = records_of(chain(samples=2))
    if rounded:  # So that signals are tied.
        records = {
            name: Records(
                **{**one._asdict(), "entropy": one.entropy.round(1), "confidence": one.confidence.round(1)}
            )
            for name, one in records.items()
        }
    found = replicate(records, WINDOW, seed=4, replicates=5)
    for place in range(6):
        texts = {
            name: drawn(one, _counts(name, len(one) // WINDOW, 4, 5)[place]) for name, one in records.items()
        }
        test, other = texts["test"], texts["other"]

        def means(values):
            return values.reshape(-1, WINDOW).mean(axis=1)

        expected = {
            "nll": -test.log_prob.mean(),
            "brier": test.brier.mean(),
            "error": 1.0 - test.correct.mean(),
            "ece": uncertainty.expected_calibration_error(test.confidence, test.correct),
            "augrc": uncertainty.area_under_generalized_risk_coverage(-test.confidence, 1.0 - test.correct),
            "entropy_gap other": other.entropy.mean() - test.entropy.mean(),
            "auroc_entropy other": uncertainty.auroc(means(other.entropy), means(test.entropy)),
            "auroc_epistemic other": uncertainty.auroc(means(other.epistemic), means(test.epistemic)),
        }
        assert found.keys() == expected.keys()
        for name, value in expected.items():
            assert found[name][place] == pytest.approx(value, rel=1e-6, abs=1e-9), name
    assert found["nll"][0] == pytest.approx(-records["test"].log_prob[:198].mean())


def test_a_model_does_not_differ_from_itself_and_what_is_shared_cancels():
    true, worse = records_of(chain()), records_of(chain(seed=1))
    (pair,) = differences([replicate(true, WINDOW), replicate(true, WINDOW)])
    assert (pair["first"], pair["second"]) == (0, 1)
    assert all(one == {"difference": 0.0, "interval": [0.0, 0.0]} for one in pair["figures"].values())
    pairs = differences([replicate(one, WINDOW) for one in (true, worse, true)])
    assert [(pair["first"], pair["second"]) for pair in pairs] == [(0, 1), (0, 2), (1, 2)]
    nll = pairs[0]["figures"]["nll"]
    assert 0.0 < nll["interval"][0] < nll["difference"] < nll["interval"][1]
    assert pairs[2]["figures"]["nll"]["difference"] == -nll["difference"]
    # The interval of a mean of paired differences is the normal one.
    by_window = (true["test"].log_prob - worse["test"].log_prob)[:198].reshape(33, 6).mean(axis=1)
    half = 1.96 * by_window.std() / np.sqrt(33)
    assert (nll["interval"][1] - nll["interval"][0]) / 2 == pytest.approx(half, rel=0.12)


def test_figures_that_only_one_has_make_no_difference():
    bare = {"test": Records(np.linspace(0, 1, 12)), "other": Records(np.linspace(1, 2, 12))}
    found = replicate(bare, 3, replicates=4)
    assert set(found) == {"entropy_gap other", "auroc_entropy other"}
    (pair,) = differences([found, {"nll": np.zeros(5)}])
    assert pair["figures"] == {}
    assert len(replicate({"test": Records(np.ones(2))}, 35, replicates=4)) == 0


def test_tables_are_read_by_other_programs():
    streams = {
        "test": {"description": "a, b", "predictions": 3},
        "far": {"description": "c", "predictions": 2},
    }
    method = {"name": "one", "method": "bbb", "weights": "mean", "source": "x", "layout": "y"}
    method |= {
        "streams": {
            "test": {
                "nll": 1.5,
                "ece": None,
                "reliability": {"lower": [0.0]},
                "risk": {"prr": {"entropy": 0.5}},
            },
            "far": None,
        },
        "temperature": {"temperature": 1.25, "test": {"nll": float("inf")}},
        "generation": {"greedy": {"prompts": 7, "areas": {"nll": 0.25}}},
    }
    results = {"methods": [method, {**method, "name": "two", "temperature": None, "generation": None}]}
    results |= {"streams": streams}
    results["differences"] = [
        {"first": 0, "second": 1, "figures": {"nll": {"difference": -0.5, "interval": [-1.0, 0.25]}}}
    ]
    rows = list(csv.DictReader(io.StringIO(as_csv(table(results)))))
    assert [(row["name"], row["text"]) for row in rows] == [
        ("one", "test"),
        ("one", "generated, greedy"),
        ("two", "test"),
    ]
    assert rows[0]["risk.prr.entropy"] == "0.5" and rows[0]["temperature.temperature"] == "1.25"
    assert rows[0]["temperature.test.nll"] == rows[0]["ece"] == "" and rows[0]["predictions"] == "3"
    assert rows[1]["areas.nll"] == "0.25" and "description" not in rows[0]
    assert json.loads(as_json(table(results)))[2]["nll"] == 1.5
    (row,) = csv.DictReader(io.StringIO(as_csv(differences_table(results))))
    assert row == {
        **{"first": "one, mean", "second": "two, mean", "figure": "nll"},
        **{"difference": "-0.5", "low": "-1.0", "high": "0.25"},
    }
