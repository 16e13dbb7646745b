"""`--mode=report` of runs that lack something, beside the paper, and of bad input."""

import functools
import html
import json
import math
import re
import shlex

import pytest
import report_pages
from report_pages import LINES, METRICS, RESULTS, command, report

from tfp_bayesrnn.errors import InputError
from zoo.configuration import config as configs
from zoo.page import published
from zoo.page.contents import DEFAULT_SAMPLES, Contents
from zoo.presets import get_preset
from zoo.report.workdir_report import write_report


@pytest.fixture
def bare(tmp_path):
    """`report_pages.bare` in a directory of the test's own."""
    return functools.partial(report_pages.bare, tmp_path)


# Runs that lack something.


def test_a_run_that_has_only_begun(bare, tmp_path, capsys):
    workdir = bare()
    page = report(workdir)
    assert (workdir / "report.html").is_file()
    assert [link.get("class") for link in page.of("a")] == [None, *["missing"] * 5]
    commands = [shlex.split(line) for line in re.findall(r"python absl_main\.py.*?'(?= |$|[A-Z])", page.text)]
    assert [line[2] for line in commands] == [
        f"--mode={mode}" for mode in ("train", "evaluate", "report", "uncertainty", "prune")
    ]
    assert all(f"--workdir={workdir}" in line for line in commands)
    out = capsys.readouterr().out
    assert f"report: {workdir}/report.html" in out
    assert "without a passage of the test text: the page says why" in out


def test_a_run_that_goes_on(bare):
    page = report(bare(metrics=LINES + '{"step": 30, "ep'), data_dir="some/data")
    assert "2 of 20 epochs; 2 min of training; best on valid is epoch 2, with perplexity 90.02" in page.text
    assert len(page.of("svg")) == 4
    assert "--data_dir=some/data" in page.text
    assert "No passage: cannot read " in page.text
    rows = page.table("epoch", "valid perplexity")
    assert [row["train NLL"] for row in rows] == ["5.5000", "4.7000"]
    assert "sharpening KL" not in rows[0]


def test_numbers_that_were_not_finite(bare):
    entries = [METRICS[0], {**METRICS[1], "nll": None, "perplexity": None, "train_nll": None}]
    results = {**RESULTS, "test": {**RESULTS["test"], "perplexity": None, "nll": None}}
    lines = "".join(json.dumps(entry) + "\n" for entry in entries)
    page = report(bare(metrics=lines, results=json.dumps(results)))
    assert "best on valid is epoch 1" in page.text
    rows = page.table("weights", "perplexity")
    assert [row["perplexity"] for row in rows] == ["90.42", "–", "84.48"]
    assert page.table("epoch", "valid perplexity")[1]["valid perplexity"] == "–"


def test_a_run_that_diverged(bare):
    page = report(bare(metrics=LINES, diverged='{"step": 25, "error": "the loss is NaN <at> 25"}'))
    assert "Training diverged at step 25: the loss is NaN <at> 25" in page.text


def test_a_pruned_workdir(bare):
    made = {"workdir": ".", "step": 3, "fraction": 0.8, "by": "magnitude", "elements": 1000, "kept": 200}
    page = report(bare(pruning=json.dumps({**made, "valid": 91.5})))
    assert "A pruned model, with 200 of 1,000 weights (0.8 dropped, the lowest magnitude first)" in page.text
    assert "--mode=prune" in page.text


def test_how_many_draws(bare):
    config = get_preset("ptb_small_bbb")
    workdir = bare()

    def contents(config):
        return Contents.read(config, workdir)

    assert contents(config).samples == DEFAULT_SAMPLES == 10
    assert contents(configs.with_overrides(config, {"evaluate.num_samples": 4})).samples == 4
    assert contents(configs.with_overrides(config, {"evaluate.num_samples": 1})).weights == "one draw"
    dropout = configs.with_overrides(get_preset("ptb_small_dropout"), {"evaluate.num_samples": 4})
    assert contents(dropout).samples == 0
    assert contents(dropout).weights == "the trained weights"


# Beside the paper.


def test_the_papers_figures_stand_beside_those_of_another_model(bare):
    page = report(bare(results=json.dumps(RESULTS)))
    rows = page.table("weights", "perplexity", "paper, another model")
    assert [row["paper, another model"] for row in rows] == ["78.8", "75.5", "70.7"]
    assert rows[2]["weights"] == "posterior mean, SGD after every window, rate 0.1, batch 20, unroll 35"
    assert rows[2]["mean on the same rows"] == "87.64"
    assert rows[2]["NLL, nats per word"] == f"{math.log(84.48):.4f}"
    said = page.text.replace("\N{NO-BREAK SPACE}", " ")
    assert "Not the same experiment. This run has 2 × 200 units, 20 epochs" in said
    assert "2 × 650 units, 70 epochs: another model." in said
    paper = page.table("model", "valid, dynamic")
    assert {row["model"]: row["test"] for row in paper} == {
        "LSTM, no regularisation": "114.5",
        "LSTM, dropout": "82.1",
        "Variational LSTM, tied masks": "79.7",
        "Variational LSTM, averaged over masks": "79.0",
        "Bayesian RNN": "75.5",
        "Bayesian RNN with sharpening": "≤ 74.8",
    }
    assert [attributes.get("class") for attributes in page.of("tr")].count("marked") == 1


def test_a_sharpened_bound_with_its_kl(bare):
    bound = {"perplexity_bound": 90.0, "standard_error": 0.25, "kl_per_token": 0.3, "tokens": 82429}
    bound |= {"weights": "phi: mean; theta: a draw", "layout": "20 rows", "batch": 20, "unroll": 35}
    results = {**RESULTS, "test_sharpened_bound": {**bound, "mean_perplexity_of_same_rows": 91.0}}
    page = report(bare("ptb_small_bbb_sharpened", results=json.dumps(results)))
    *others, row = page.table("weights", "perplexity", "KL, nats per word", "paper, another model")
    assert row["perplexity"] == "≤ 90.00 ± 0.25" and row["mean on the same rows"] == "91.00"
    assert row["NLL, nats per word"] == f"{math.log(90.0) - 0.3:.4f}"
    assert row["KL, nats per word"] == "0.3000"
    assert row["paper, another model"] == "≤ 74.8"
    assert {other["paper, another model"] for other in others} == {""}  # Of the mean the paper says nothing.
    assert row["weights"] == "sharpened; phi: mean; theta: a draw, batch 20, unroll 35"


def test_a_run_of_the_papers_size_is_still_another(bare):
    page = report(bare("ptb_medium_bbb"))
    assert "Not the same experiment" not in page.text  # Nothing to stand beside yet.
    config = get_preset("ptb_medium_bbb")
    assert "what else it was trained with may differ" in published.ptb_differences(config)[0]
    assert "another model" in published.ptb_differences(get_preset("ptb_small_bbb"))[0]


def test_captions_of_coco_beside_the_paper(bare):
    scores = {f"bleu{n}": 0.1 * n for n in range(1, 5)} | {"cider": 0.9, "rouge_l": 0.5, "beam": 3}
    figures = {"perplexity": 9.0, "nll": math.log(9.0), "tokens": 500, "weights": "mean", "images": 50}
    results = {**RESULTS, "valid": figures, "test": {**figures, **scores}}
    del results["test_dynamic"]
    results["test_uncertainty"] = {"mean_cider": 0.9, "best_area": 1.5} | {
        "entropy": {"rank_correlation": -0.4, "rank_correlation_95": [-0.5, -0.3], "area": 1.2}
    }
    page = report(bare("coco_bbb", results=json.dumps(results)))
    ours, theirs = page.table("weights", "BLEU-4", "CIDEr")
    assert (ours["BLEU-4"], ours["CIDEr"], ours["images"]) == ("40.0", "90.0", "50")
    assert (theirs["weights"], theirs["BLEU-4"], theirs["CIDEr"]) == ("paper, another model", "30.2", "96.0")
    assert "the vocabulary is another: other images and other words" in page.text
    assert page.table("uncertainty", "area")[0]["area"] == "120.0"
    assert "are measured of language models only" in page.text


# Bad input.


def test_a_workdir_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="none does not exist"):
        write_report(get_preset("ptb_small_bbb"), str(tmp_path / "none"))


@pytest.mark.parametrize("name", ["results", "uncertainty", "pruning", "diverged"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not valid JSON"),
        ("", "is not valid JSON"),
        ("[1]", "must hold a JSON object, got list"),
        ('{"test": 3, "curves": 4, "methods": 5}', "does not hold what --mode="),
        ("{}", "does not hold what --mode="),
    ],
)
def test_a_damaged_file(bare, name, content, message):
    workdir = bare(**{name: content})
    (workdir / "report.html").write_text("the old one")
    with pytest.raises(InputError, match=rf"{name}\.json {re.escape(message)}") as error:
        report(workdir)
    assert "\n" not in str(error.value)
    assert (workdir / "report.html").read_text() == "the old one"
    assert not list(workdir.glob(".report*"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (LINES + "{torn\n", r"metrics\.jsonl: line 3 is not valid JSON"),
        ("5\n", r"metrics\.jsonl: line 1 must hold a JSON object, got int"),
        ('{"step": 3}\n', r"metrics\.jsonl does not hold what --mode=train writes \(KeyError: 'epoch'\)"),
        (LINES.replace("5.5", '"high"'), r"metrics\.jsonl does not hold what --mode=train writes"),
    ],
)
def test_damaged_metrics(bare, content, message):
    with pytest.raises(InputError, match=message):
        report(bare(metrics=content))


def test_a_file_that_cannot_be_read(bare):
    workdir = bare()
    (workdir / "results.json").mkdir()
    with pytest.raises(InputError, match=r"cannot read .*results\.json: Is a directory"):
        report(workdir)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("page.txt", r"page\.txt is not accepted: the report is HTML"),
        ("config.json", r"config\.json is not accepted"),
        ("none/page.html", "must be a file in a directory that exists"),
        ("folder.html", "must be a file in a directory that exists"),
    ],
)
def test_an_output_that_cannot_be(bare, tmp_path, name, message):
    (tmp_path / "folder.html").mkdir()
    with pytest.raises(InputError, match=message):
        report(bare(), tmp_path / name)


def test_on_the_command_line(bare, tmp_path, capsys):
    output = tmp_path / "page.html"
    workdir = bare(metrics=LINES)
    command("report", workdir, f"--output={output}", f"--data_dir={tmp_path}")
    assert html.unescape(output.read_text(encoding="utf-8")).count("Learning curves") == 2
    assert str(output) in capsys.readouterr().out
    assert not (workdir / "report.html").exists()
