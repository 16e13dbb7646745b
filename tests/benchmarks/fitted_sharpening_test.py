"""The fit of a sharpening to a trained posterior lowers its bound."""

import json

import pytest
from command_line_runs import run

from benchmarks import fitted_sharpening


@pytest.mark.slow
def test_the_bound_falls_as_it_is_fitted(tmp_path, capsys):
    workdir, found = tmp_path / "run", {}
    assert run("train", workdir, "--config.train.epochs=1") == 0
    for steps in (0, 60):
        output = tmp_path / f"{steps}.json"
        shape = ("--rows=10", "--unroll=30", f"--steps={steps}", "--sigma0=0.2", "--learning_rate=0.1")
        fitted_sharpening.main([f"--workdir={workdir}", f"--json={output}", *shape])
        found[steps] = json.loads(output.read_text())["pieces"]
    shown = capsys.readouterr().out
    for form in ("paper", "scaled"):
        test = found[60][form]["test"]
        assert len(found[60][form]["course"]) == 60
        assert test["bound"] < found[0][form]["test"]["bound"]
        assert test["kl"] > 0.0 and test["standard_error"] > 0.0
        assert f"{form:<8}test   10 x 30: mean {test['mean']:.2f}, bound <= {test['bound']:.2f}" in shown
    assert found[60]["scaled"]["test"]["bound"] < found[60]["paper"]["test"]["bound"]
    assert len(found[60]["scaled"]["sigma0"]) == 6
