"""Tables and figures of README and docs are those of records and of the code."""

import json
import math

import pytest

import absl_main
import zoo
from benchmarks import documented, made_tables
from zoo.data import load_corpus
from zoo.language_model.results import lowest_perplexity

ROOT = made_tables.ROOT
DEMO = {run["preset"]: run for run in made_tables.read_record("demo")["runs"]}


def text_of(name):
    return (ROOT / name).read_text(encoding="utf-8")


def test_the_tables_are_as_made():
    """Where one is not, `-m benchmarks.made_tables --write` writes it."""
    assert [path.name for path, _ in made_tables.differing()] == []
    named = [name for path in documented.DOCUMENTS for name in made_tables.names_in(path.read_text("utf-8"))]
    assert sorted(named) == sorted(made_tables.TABLES)


def test_a_figure_that_is_changed_by_hand_is_found():
    text = text_of("docs/results.md")
    row = DEMO["demo_bbb"]["test"]["perplexity"]
    wrong = text.replace(f"{row:.2f} |", f"{row - 1.0:.2f} |", 1)
    assert wrong != text and made_tables.made(wrong) == text
    with pytest.raises(KeyError, match="unknown"):
        made_tables.made("<!-- made: unknown -->\n<!-- end -->")


def test_every_record_says_what_it_was_made_by():
    for path in made_tables.RECORDS.glob("*.json"):
        found = made_tables.read_record(path.stem)
        assert all(run["commit"] for run in found["runs"]) and {
            run["preset"] for run in found["runs"]
        } <= set(zoo.preset_names())
        command = documented.Command(path.name, found["command"].split())
        assert documented.problem_of(command, {}) is None


def test_the_lowest_perplexity_of_the_built_in_corpus():
    lowest = f"{lowest_perplexity(load_corpus('builtin'))['lowest_perplexity']:.2f}"
    assert f"could reach, {lowest}," in text_of("README.md")
    assert f"No model can be below {lowest} in expectation" in text_of("docs/results.md")
    assert all(run["test"]["perplexity"] > float(lowest) for run in DEMO.values())


def test_the_number_of_weights():
    posterior = zoo.from_preset("ptb_small_bbb").posterior
    weights = sum(math.prod(weight.shape) for weight in posterior.weights)
    assert f"`ptb_small_bbb`, {weights:,} weights" in text_of("docs/pruning.md")
    assert f"{weights / 1e6:.2f} million weights" in text_of("docs/export.md")


def test_new_figures_become_a_record(tmp_path, monkeypatch, capsys):
    answers = {"status": "", "rev-parse": "abc1234"}
    monkeypatch.setattr(made_tables, "_git", lambda name, *_: answers[name])
    monkeypatch.setattr(made_tables, "RECORDS", tmp_path)
    monkeypatch.setattr(made_tables, "differing", lambda: iter(()))
    (tmp_path / "run").mkdir()
    results = {"preset": "demo_bbb", "seed": 0, "task": "language_model", "kl_per_training_token": 2.0}
    results |= {"test": {"perplexity": 20.04, "tokens": 6011}, "test_mc": {"perplexity": 20.0, "samples": 10}}
    (tmp_path / "run" / "results.json").write_text(json.dumps(results))
    arguments = ["--record=demo", str(tmp_path / "run")]
    assert made_tables.main(arguments) == 0
    assert made_tables.read_record("demo") == {
        "command": f"--mode=train --preset=demo_bbb --workdir={tmp_path / 'run'}",
        "runs": [
            {
                "commit": "abc1234",
                "preset": "demo_bbb",
                "seed": 0,
                "kl_per_training_token": 2.0,
                "test": {"perplexity": 20.04},
                "test_mc": {"perplexity": 20.0, "samples": 10},
            }
        ],
    }
    assert "| `demo_bbb` | 20.0 | 20.0 |" in made_tables.of_runs("demo", splits=["test"], with_training=False)
    answers["status"] = " M zoo/x.py"
    with pytest.raises(SystemExit, match="commit what has changed first"):
        made_tables.main(arguments)


@pytest.mark.slow
@pytest.mark.parametrize("preset", ["demo_deterministic"])
def test_a_row_of_the_built_in_corpus_is_trained_again(preset, tmp_path):
    """Within 1.5 %: other processors round otherwise, as another seed does (docs/sharpening.md: 0.2 %)."""
    command = ["absl_main.py", "--mode=train", f"--preset={preset}", f"--workdir={tmp_path / 'run'}"]
    assert absl_main.main(command) == 0
    results = json.loads((tmp_path / "run" / "results.json").read_text())
    for split in ("valid", "test"):
        recorded = DEMO[preset][split]["perplexity"]
        assert results[split]["perplexity"] == pytest.approx(recorded, rel=0.015)
