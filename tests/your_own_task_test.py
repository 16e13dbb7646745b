"""The programs of docs/your_own_task.md, as they stand there, and what they say about their data."""

import json
import os
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parent.parent
TEXT = (ROOT / "docs" / "your_own_task.md").read_text(encoding="utf-8")
PROGRAMS = dict(re.findall(r"```python file=(\w+)\.py\n(.*?)```", TEXT, re.DOTALL))
TASKS = ("regression", "classification", "tagging", "forecasting")

# Run a program; then say what its model makes of data.
RUN = """
import json, runpy, sys, keras, numpy as np
name = sys.argv[1]
keras.utils.set_random_seed(0)
result = runpy.run_path(f"{name}.py")
model, found = result["model"], {}
x, y = (result[key] for key in (("ids", "tags") if name == "tagging" else ("x", "y")))
if name == "forecasting":
    x, y = x[1200:], y[1200:]
np.save("inputs.npy", x[-8:])
found["mean"] = model.predictive(x[-8:], 5).mean().tolist()
found["scores"] = model.evaluate(x, y, num_samples=20, return_dict=True)
if name == "regression":
    found |= {key: np.asarray(result[key]).tolist() for key in ("y", "low", "high")}
    found["epistemic"] = result["far"].epistemic().tolist()
print("found:", json.dumps(found))
"""
LOAD = """
import json, sys, keras, numpy as np, tfp_bayesrnn
name = sys.argv[1]
model = keras.saving.load_model(f"{name}.keras")
print(json.dumps(model.predictive(np.load("inputs.npy"), 5).mean().tolist()))
if name == "regression":
    exec(open("loading.py").read())
"""


def process(program, folder, name):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        [sys.executable, "-c", program, name],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tmp_path_factory.mktemp("programs")
    for name, program in PROGRAMS.items():
        (made / f"{name}.py").write_text(program, encoding="utf-8")
    return made


def test_there_is_a_program_of_at_most_20_lines_for_each():
    assert set(PROGRAMS) == {*TASKS, "loading"}
    for name, program in PROGRAMS.items():
        assert len([line for line in program.splitlines() if line.strip()]) <= 20, name


@pytest.mark.slow
@pytest.mark.parametrize("name", TASKS)
def test_it_does_what_the_page_says(name, folder):
    found = json.loads(process(RUN, folder, name).split("found: ")[1])
    CHECKS[name](found)
    loaded = json.loads(process(LOAD, folder, name).splitlines()[0])
    np.testing.assert_allclose(loaded, found["mean"], rtol=1e-4, atol=1e-5)


def check_regression(found):
    """Its intervals are no narrower than they say, by three standard errors of a share of 1000."""
    y, low, high = (np.array(found[key]) for key in ("y", "low", "high"))
    assert 0.87 < np.mean((low <= y) & (y <= high)) < 0.98
    within, beyond = found["epistemic"]
    assert beyond > 3.0 * within


def check_forecasting(found):
    """The CRPS of who knows the truth is half the mean absolute difference of the noise, 0.13."""
    assert found["scores"]["crps"] < 0.17
    assert abs(found["scores"]["coverage_90"] - 0.9) < 0.05


def check_classification(found):
    assert found["scores"]["accuracy"] > 0.95 and found["scores"]["ece"] < 0.1


def check_tagging(found):
    assert found["scores"]["accuracy"] > 0.98


CHECKS = {
    "regression": check_regression,
    "classification": check_classification,
    "tagging": check_tagging,
    "forecasting": check_forecasting,
}
