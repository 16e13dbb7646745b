"""A task that is neither words nor known to any room: a folder and a line of the registry are enough."""

import json
import types
from dataclasses import dataclass

import keras
import numpy as np
import pytest
import tensorflow as tf

import absl_main
from tfp_bayesrnn import MeanFieldNormal, NormalLikelihood, VariationalDense
from zoo import presets, registry
from zoo.configuration import checks
from zoo.configuration.fields import Change, Table, setting, table
from zoo.runs.assembly import assemble
from zoo.runs.experiment import Experiment
from zoo.runs.settings import RunConfig
from zoo.task import Task

SERIES = {
    split: np.sin(np.arange(n, dtype=np.float32) / 3) for split, n in dict(train=33, valid=9, test=9).items()
}


@dataclass(frozen=True, kw_only=True)
class Data(Table):
    name: str = setting("waves", checks.choice("waves"), "the series")


@dataclass(frozen=True, kw_only=True)
class Model(Table):
    scale: float = setting(0.5, checks.POSITIVE, "of the noise")
    lags: int = setting(2, checks.whole(1, 9), "values that are looked back on")


@dataclass(frozen=True, kw_only=True)
class Evaluation(Table):
    num_samples: int = setting(0, checks.SAMPLES, "samples of the weights that are averaged")


@dataclass(frozen=True, kw_only=True)
class WavesConfig(RunConfig):
    task: str = setting("waves", checks.choice("waves"), "what is learnt")
    method: str = setting("bbb", checks.choice("bbb"), "how weights are learnt")
    data: Data = table(Data)
    model: Model = table(Model)
    evaluate: Evaluation = table(Evaluation, Change.EVALUATED)


def load_data(config, data_dir):
    return types.SimpleNamespace(
        vocabulary=None, fingerprints=lambda: {name: str(values.sum()) for name, values in SERIES.items()}
    )


def restorable(config, vocabulary=None, workdir=None):
    layer = VariationalDense(1, posterior=MeanFieldNormal(config.posterior.other_scale_range))
    likelihood = NormalLikelihood(config.model.scale)
    return assemble(
        config, lambda: keras.Sequential([layer]), 8, 4, likelihood, (None, None, config.model.lags)
    )


class WavesExperiment(Experiment):
    unit = "values"
    layout = "one series"
    steps_per_epoch, predictions_per_step = 4, 8.0

    def read_data(self, data_dir):
        return load_data(self.config, data_dir)

    def build_model(self):
        return restorable(self.config)

    def minibatches(self, split):
        values, lags = SERIES[split], self.config.model.lags
        inputs = np.stack([values[place : place + lags] for place in range(len(values) - lags)])
        pairs = (inputs[:, np.newaxis], values[lags:, np.newaxis, np.newaxis])
        return tf.data.Dataset.from_tensor_slices(pairs).batch(7 if split != "train" else 2)

    def training_data(self, step):
        return self.minibatches("train").take(4).repeat().skip(step)

    def scored_data(self, split):
        return self.minibatches(split)

    def epoch_figures(self, report):
        return {}

    def describe(self, entry):
        return f"valid NLL {entry['nll']:.3f}"

    def final_results(self):
        return {
            split: {**self.figures(self.evaluator.mean(self.scored_data(split))), "weights": "mean"}
            for split in ("valid", "test")
        }

    def summary(self, results):
        return f"test NLL {results['test']['nll']:.3f}"


TASK = Task(
    name="waves",
    label="forecaster",
    about="the next value of a series",
    config=WavesConfig,
    presets={"waves": {"task": "waves", "preset": "waves", "description": "waves", "train": {"batch": 2}}},
    size=lambda config: f"{config.model.lags} lags",
    load_data=load_data,
    model_for=lambda config, data=None: restorable(config),
    restorable=restorable,
    experiment=WavesExperiment,
    has_vocabulary=False,
)


@pytest.fixture(autouse=True)
def task(monkeypatch):
    monkeypatch.setitem(registry.TASKS, "waves", TASK)
    monkeypatch.setitem(presets.PRESETS, "waves", TASK.presets["waves"])


def run(mode, workdir, *flags):
    return absl_main.main(["absl_main.py", f"--mode={mode}", f"--workdir={workdir}", *flags])


def test_every_mode_serves_it_or_refuses_it_by_name(tmp_path, capsys, eagerly):
    assert "waves" in presets.table()
    epochs = ("--preset=waves", "--jit_compile=off", "--config.train.epochs=1", "--config.model.scale=1")
    assert run("train", tmp_path, *epochs) == 0
    assert run("train", tmp_path, *epochs[:2], "--config.train.epochs=2", "--config.model.scale=1") == 0
    assert run("evaluate", tmp_path) == 0
    results = json.loads((tmp_path / "results.json").read_text())
    assert (results["epochs_trained"], results["test"]["predictions"]) == (2, 7)
    assert run("report", tmp_path) == 0 and run("prune", tmp_path, "--prune=0.5") == 0
    assert not (tmp_path / "vocabulary.txt").exists()
    capsys.readouterr()
    for mode, flags in (("export", ()), ("generate", ()), ("caption", ("--images=x.png",))):
        assert run(mode, tmp_path, *flags) == 2
        assert "a forecaster" in capsys.readouterr().err
    assert run("train", tmp_path, *epochs[:2], "--config.model.lags=3") == 2
    assert "model.lags is 2 there and 3 here" in capsys.readouterr().err
    assert run("train", tmp_path / "b", "--preset=waves", "--config.model.lags=0") == 2
    assert "model.lags=0 is not accepted" in capsys.readouterr().err
