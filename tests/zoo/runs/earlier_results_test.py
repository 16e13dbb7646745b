"""What `results.json` keeps of earlier evaluations."""

import pytest

from zoo.language_model.experiment import LanguageModelExperiment
from zoo.presets import get_preset
from zoo.runs.earlier_results import with_earlier
from zoo.runs.workdir import Workdir

FOUND = {"checkpoint_sha256": "a", "steps": 3, "evaluate": {"rows": 20}, "test": {"nll": 1.0}}
EARLIER = {**FOUND, "test": {"nll": 2.0}, "test_mc": {"nll": 0.9}, "lowest_perplexity": 18.3}


def kept(workdir, earlier, found=FOUND, holds=lambda *_: True):
    workdir.write_results(earlier)
    return with_earlier(workdir, found, holds)


@pytest.fixture
def workdir(tmp_path):
    return Workdir(tmp_path)


def test_figures_of_the_same_weights_are_kept(workdir):
    assert with_earlier(workdir, FOUND, lambda *_: True) == FOUND
    # What has been found anew is new, and what are no figures is not kept.
    assert kept(workdir, EARLIER) == {**FOUND, "test_mc": {"nll": 0.9}}


@pytest.mark.parametrize(
    "earlier",
    [
        {**EARLIER, "checkpoint_sha256": "b"},
        {**EARLIER, "checkpoint_sha256": None},
        {name: value for name, value in EARLIER.items() if name != "checkpoint_sha256"},
        {name: value for name, value in EARLIER.items() if name != "evaluate"},
    ],
)
def test_figures_of_other_weights_or_of_earlier_versions_are_not(workdir, earlier, caplog):
    with caplog.at_level("INFO", "absl"):
        assert kept(workdir, earlier) == FOUND
    assert "test_mc of an earlier evaluation left out" in caplog.records[-1].getMessage()
    assert kept(workdir, earlier, {**FOUND, "checkpoint_sha256": None}) == {
        **FOUND,
        "checkpoint_sha256": None,
    }


def test_figures_of_other_settings_are_not(workdir):
    def holds(name, figures, settings):
        assert (name, figures, settings) == ("test_mc", EARLIER["test_mc"], EARLIER["evaluate"])
        return False

    assert kept(workdir, EARLIER, holds=holds) == FOUND


def test_a_damaged_file_is_replaced(workdir, caplog):
    workdir.write_results(EARLIER)
    workdir.results_path.write_bytes(workdir.results_path.read_bytes().replace(b"0.9", b"0.8"))
    assert with_earlier(workdir, FOUND, lambda *_: True) == FOUND
    assert "damaged" in caplog.text


@pytest.mark.parametrize(
    ("name", "changed", "holds"),
    [
        ("test_mc", {"rows": 7, "unroll": 7, "num_samples": 5, "dynamic_learning_rate": 0.1}, True),
        ("test_mc", {"final_rows": 2}, False),
        ("valid_mc", {"final_unroll": 7}, False),
        ("test_dynamic", {"final_rows": 2, "dynamic_learning_rate": 0.1, "dynamic_rule": "rms"}, True),
        ("test_dynamic", {"rows": 7}, False),
        ("test_dynamic_sharpened_bound", {"unroll": 7}, False),
    ],
)
def test_what_figures_of_a_language_model_depend_on(name, changed, holds):
    experiment = object.__new__(LanguageModelExperiment)  # It reads no data.
    experiment.config = get_preset("demo_bbb")
    settings = {**experiment.config.evaluate.to_dict(), **changed}
    assert experiment.holds(name, {}, settings) == holds


def test_an_ensemble_whose_members_have_changed(tmp_path):
    experiment = object.__new__(LanguageModelExperiment)
    experiment.config = get_preset("demo_bbb")
    settings, best = experiment.config.evaluate.to_dict(), tmp_path / "checkpoints" / "best"
    figures = {"member_checkpoints": {str(tmp_path): "0" * 64}}
    assert not experiment.holds("test_ensemble", figures, settings)
    best.mkdir(parents=True)
    (best / "ckpt-3.index").write_bytes(b"3")
    assert not experiment.holds("test_ensemble", figures, settings)
    figures["member_checkpoints"][str(tmp_path)] = Workdir(tmp_path).best_digest
    assert experiment.holds("test_ensemble", figures, settings)
    (best / "ckpt-3.index").write_bytes(b"4")
    assert not experiment.holds("test_ensemble", figures, settings)
