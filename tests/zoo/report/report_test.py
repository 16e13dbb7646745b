"""`--mode=report`: the page of a run that has everything, its numbers and the shades of its words."""

import functools
import json
import math
import re

import numpy as np
import pytest
import report_pages
import tensorflow as tf
from report_pages import NASTY, WORDS, command, report, shades, text_files

from zoo.configuration import config as configs
from zoo.data.corpus import load_corpus
from zoo.data.vocabulary import EOS
from zoo.language_model import report_passage as passage
from zoo.language_model.model import restorable
from zoo.page.contents import Contents
from zoo.pruning.cost import measure_pruning
from zoo.registry import read_config
from zoo.runs.restored import restored
from zoo.runs.workdir import Workdir
from zoo.uncertainty.predictors import NetworkPredictor

FAST = ("--config.train.unroll=10", "--jit_compile=off")
SIZE = ("--config.model.units=6", "--config.model.embedding_units=5", "--config.model.layers=1")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """(Workdir, data): a run that has everything, of a sharpened model, under a name with markup in it."""
    folder = tmp_path_factory.mktemp("data")
    data = text_files(folder)
    workdir = tmp_path_factory.mktemp("runs") / 'a <b>&"run'
    common = (f"--data_dir={data}",)
    preset = ("--preset=text_medium_bbb_sharpened", "--config.train.epochs=2", "--config.train.batch=4")
    command("train", workdir, *preset, *FAST, *SIZE, *common, "--config.evaluate.num_samples=3")
    command("uncertainty", workdir, *common, "--num_samples=2", "--words=100")
    config = read_config(Workdir(workdir, create=False))
    measure_pruning(config, str(workdir), str(data), fractions=(0.3, 0.8), alone=(0.5,))
    return workdir, data


@pytest.fixture(scope="module")
def finished_page(finished, tmp_path_factory):
    workdir, data = finished
    return report(workdir, tmp_path_factory.mktemp("out") / "page.html", str(data))


@pytest.fixture
def bare(tmp_path):
    """`report_pages.bare` in a directory of the test's own."""
    return functools.partial(report_pages.bare, tmp_path)


# The page of a run that has everything.


def test_the_page_has_its_parts(finished_page):
    assert finished_page.of("html") == [{"lang": "en"}]
    names = [element for element, _ in finished_page.elements]
    assert names.count("title") > 1 and names.index("title") < names.index("body")  # Drawings have titles.
    assert names.count("h1") == names.count("main") == names.count("nav") == 1
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in finished_page.of("meta")
    ids = ["configuration", "learning", "results", "passage", "uncertainty", "pruning"]
    assert [section["id"] for section in finished_page.of("section")] == ids
    assert [link["href"] for link in finished_page.of("a")] == [f"#{name}" for name in ids]
    assert all(link.get("class") is None for link in finished_page.of("a"))
    assert "missing-part" not in [attributes.get("class") for _, attributes in finished_page.elements]


def test_the_policy_lets_nothing_be_fetched(finished_page):
    policies = [meta["content"] for meta in finished_page.of("meta") if "http-equiv" in meta]
    assert policies == ["default-src 'none'; style-src 'unsafe-inline'; img-src data:"]


def test_drawings_say_what_they_show(finished_page):
    drawings = finished_page.of("svg")
    # Curves; reliability, entropies, selection and swapped words of two sets of weights; pruning.
    assert len(drawings) == 5 + 4 * 2 + 1
    assert all(drawing["role"] == "img" and drawing["aria-label"] for drawing in drawings)
    assert all("viewbox" in drawing for drawing in drawings)


def test_the_results_are_those_of_the_file(finished, finished_page):
    results = json.loads((finished[0] / "results.json").read_text())
    rows = finished_page.table("weights", "split", "perplexity", "KL, nats per word")
    keys = [f"{split}{kind}" for split in ("valid", "test") for kind in ("", "_mc", "_sharpened_bound")]
    assert len(rows) == len(keys)
    for key, row in zip(keys, rows, strict=True):
        figures = results[key]
        assert row["split"] == key.split("_")[0]
        assert row["words"] == f"{figures['tokens']:,}"
        assert row["read as"] == figures["layout"]
        if "bound" in key:
            bound, kl = figures["perplexity_bound"], figures["kl_per_token"]
            assert row["perplexity"] == f"≤ {bound:,.2f} ± {figures['standard_error']:,.2f}"
            assert row["KL, nats per word"] == f"{kl:.4f}"
            # Rounded to four digits each.
            both = float(row["NLL, nats per word"]) + float(row["KL, nats per word"])
            assert both == pytest.approx(math.log(bound), abs=2e-4)
            assert row["mean on the same rows"] == f"{figures['mean_perplexity_of_same_rows']:,.2f}"
            assert row["weights"].startswith("sharpened; phi: mean; theta: a draw for every window")
        else:
            assert row["perplexity"] == f"{figures['perplexity']:,.2f}"
            assert row["NLL, nats per word"] == f"{figures['nll']:.4f}"
            assert (
                row["weights"]
                == {"": "posterior mean", "_mc": "average over 3 samples"}[key[len(row["split"]) :]]
            )
    assert "The paper has no figures for these data." in finished_page.text
    assert "Not the same experiment" not in finished_page.text


def test_the_benchmarks_figures_are_those_of_the_file(finished, finished_page):
    found = json.loads((finished[0] / "uncertainty.json").read_text())
    rows = finished_page.table("model and weights", "ECE", "Brier")
    gaps = finished_page.table("model and weights", "gap", "of reversed")
    assert len(rows) == len(gaps) == len(found["methods"]) == 2
    for method, row, gap in zip(found["methods"], rows, gaps, strict=True):
        test, other = method["streams"]["test"], method["streams"]["reversed"]
        assert (
            row["model and weights"] == gap["model and weights"] == f"{method['name']}, {method['weights']}"
        )
        assert row["ECE"] == f"{test['ece']:.4f}" and row["Brier"] == f"{test['brier']:.4f}"
        assert gap["gap"] == f"{other['entropy_gap']:.3f}"
        assert gap["entropy of test"] == f"{test['entropy']:.3f}"
        assert gap["95 %"] == "{:.3f} to {:.3f}".format(*other["entropy_gap_95"])
    assert "gap in the paper" not in gaps[0]
    temperatures = finished_page.table("model and weights", "temperature", "at it")
    expected = [f"{method['temperature']['temperature']:.3f}" for method in found["methods"]]
    assert [row["temperature"] for row in temperatures] == expected
    (difference,) = finished_page.table("model and weights", "nll", "augrc")
    nll = found["differences"][0]["figures"]["nll"]
    assert difference["nll"] == "{:.3f} ({:.3f} to {:.3f})".format(nll["difference"], *nll["interval"])
    labels = [svg.get("aria-label", "") for svg in finished_page.of("svg")]
    for chart in ("Share of wrong words, ", "AUROC, "):
        assert sum(label.startswith(chart) for label in labels) == 2, chart


def test_the_pruning_table_is_that_of_the_file(finished, finished_page):
    found = json.loads((finished[0] / "pruning.json").read_text())
    curve = {(one["by"], one["scope"]): one["points"] for one in found["curves"] if one["weight"] is None}
    rows = finished_page.table("dropped", "weights left")
    main = curve["signal_to_noise", "network"]
    assert len(rows) == len(main)
    for row, point, magnitude in zip(rows, main, curve["magnitude", "network"], strict=True):
        assert row["weights left"] == f"{found['elements'] - point['dropped']:,}"
        assert row["valid, by signal to noise"] == f"{point['valid']:,.2f}"
        assert row["test"] == f"{point['test']:,.2f}"
        assert row["valid, by magnitude"] == f"{magnitude['valid']:,.2f}"
    alone = finished_page.table("weight", "elements")
    assert alone[0]["weight"] == "embedding/embeddings"
    assert "With 80 % dropped it is" in finished_page.text


def test_the_epochs_are_those_of_the_file(finished, finished_page):
    entries = [json.loads(line) for line in (finished[0] / "metrics.jsonl").read_text().splitlines()]
    rows = finished_page.table("epoch", "valid perplexity")
    assert [row["valid perplexity"] for row in rows] == [f"{entry['perplexity']:,.2f}" for entry in entries]
    assert [row["sharpening KL"] for row in rows] == [
        f"{entry['train_kl_sharpening']:.5f}" for entry in entries
    ]


def test_configuration_is_whole(finished, finished_page):
    config = read_config(Workdir(finished[0], create=False))
    shown = dict(zip(finished_page.facts["dt"], finished_page.facts["dd"], strict=True))
    assert shown["Method"] == "Bayes by Backprop with posterior sharpening (bbb_sharpened)"
    for name, value in configs.flatten(config).items():
        if "." in name:
            leaf = name.split(".")[-1]
            said = value if isinstance(value, str) else json.dumps(value)
            assert (leaf, said or "(none)") in zip(
                finished_page.facts["dt"], finished_page.facts["dd"], strict=True
            )
        else:
            label = {"compute_dtype": "Computed in", "jit_compile": "Compiled by XLA"}.get(
                name, name.capitalize()
            )
            assert shown[label]
    summaries = [name for name, value in config.to_dict().items() if hasattr(value, "items")]
    assert all(name in finished_page.text for name in summaries)


def test_what_looks_like_markup_is_text(finished, finished_page):
    assert f"Workdir: {finished[0]}" in finished_page.text
    assert finished_page.text.count(str(finished[0].name)) >= 2
    words = [word for word, _ in finished_page.words]
    assert set(NASTY) <= set(words)


# The passage.


def scored(finished, samples):
    workdir, data = finished
    config = read_config(Workdir(workdir, create=False))
    config = configs.with_overrides(config, {"evaluate.num_samples": samples})
    return passage.score_passage(Contents.read(config, workdir, str(data)))


@pytest.mark.slow
@pytest.mark.parametrize("samples", [1, 3])
def test_the_passage_is_judged_as_the_benchmark_does(finished, samples):
    workdir, data = finished
    found = scored(finished, samples)
    config = read_config(Workdir(workdir, create=False))
    model, vocabulary, _ = restored(restorable, config, Workdir(workdir))
    corpus = load_corpus("text", data)
    end = found.read_before + len(found.words)
    predictor = NetworkPredictor(model.network, samples, config.seed, "logits")
    log_probs, _ = predictor(tf.constant(corpus.test[np.newaxis, : end - 1]), None)
    log_probs = log_probs.numpy().astype(np.float64)[:, 0, found.read_before - 1 :]
    average = np.logaddexp.reduce(log_probs, axis=0) - math.log(samples)
    targets = corpus.test[found.read_before : end]
    entropy = -(np.exp(average) * average).sum(axis=-1)
    aleatoric = -(np.exp(log_probs) * log_probs).sum(axis=-1).mean(axis=0)
    assert list(found.words) == vocabulary.decode(targets)
    # Float32 against float64 of the same float32 networks.
    np.testing.assert_allclose(found.entropies, entropy, atol=1e-5)
    np.testing.assert_allclose(found.log_probs, average[np.arange(len(targets)), targets], atol=1e-5)
    if samples == 1:
        assert found.mutual_information is None
    else:
        np.testing.assert_allclose(found.mutual_information, entropy - aleatoric, atol=1e-5)


def test_shades_are_monotone_in_mutual_information(finished_page):
    words = [word for word in finished_page.words if "title" in word[1]]
    assert len(words) >= 150
    found = [
        (share, float(re.search(r"mutual information ([\d.e-]+)", title)[1]))
        for share, title in shades(words)
    ]
    ordered = [share for share, _ in sorted(found, key=lambda pair: pair[1])]
    # Titles have three digits and styles three places, so neighbours may be out of order by as much.
    assert np.all(np.diff(ordered) >= -0.005)
    assert 0.5 <= max(ordered) <= 1.0 and len(set(ordered)) > 10


def test_the_words_are_the_passage(finished, finished_page):
    found = scored(finished, 3)
    shown = [word for word, attributes in finished_page.words if "title" in attributes]
    assert shown == [passage._LINE_END if word == EOS else word for word in found.words]
    rows = finished_page.table("word", "mutual information")
    assert [row["word"] for row in rows] == list(found.words)
    assert [row["entropy"] for row in rows] == [f"{value:.3f}" for value in found.entropies]


def test_without_draws_words_are_shaded_by_entropy(finished, tmp_path):
    workdir, data = finished
    page = report(workdir, tmp_path / "page.html", str(data), samples=1)
    words = [word for word in page.words if "title" in word[1]]
    found = [(share, float(re.search(r"entropy ([\d.]+)", title)[1])) for share, title in shades(words)]
    assert all("mutual" not in title for _, title in shades(words))
    ordered = [share for share, _ in sorted(found, key=lambda pair: pair[1])]
    assert np.all(np.diff(ordered) >= -0.005)
    assert "Entropy, nats:" in page.text


def test_data_that_are_not_there(finished, tmp_path):
    page = report(finished[0], tmp_path / "page.html", data_dir=str(tmp_path / "none"))
    assert "No passage: " in page.text and str(tmp_path / "none") in page.text
    assert [link.get("class") for link in page.of("a")].count("missing") == 1


def test_data_of_another_vocabulary(finished, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    page = report(finished[0], tmp_path / "page.html", data_dir=str(text_files(other, WORDS[:4])))
    assert "No passage: the data's vocabulary" in page.text


@pytest.mark.slow
def test_the_papers_entropy_gaps(bare, finished):
    found = json.loads((finished[0] / "uncertainty.json").read_text())
    for method in found["methods"]:
        method["method"] = "bbb"
    page = report(bare(uncertainty=json.dumps({**found, "data": "ptb"})))
    gaps = page.table("model and weights", "gap in the paper")
    assert [row["gap in the paper"] for row in gaps] == ["about 0.65", "about 0.67"]
    assert "words of the 82,429 were read" in page.text and "not the same experiment" in page.text
    assert sum("gap in the paper" in table[0] for table in page.tables) == 1  # That of the reversed text.
