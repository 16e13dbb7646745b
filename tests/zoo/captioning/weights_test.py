"""Where a captioning run has its weights from: its own checkpoint, another run's, or the encoder's file."""

import os
import shutil
from pathlib import Path

import captioning_runs as captioning
import numpy as np
import pytest
import quick_runs

from tfp_bayesrnn.errors import InputError
from zoo.captioning import encoder as encoders
from zoo.captioning import model as models
from zoo.captioning.experiment import CaptioningExperiment
from zoo.captioning.features import features_of
from zoo.registry import read_config
from zoo.runs.workdir import Workdir

FROZEN = (
    "--config.encoder.trainable=false",
    "--config.data.shift=false",
    "--config.data.flip=false",
    "--config.train.epochs=1",
)

data = captioning.data  # The small data set, for every test here.
quick = quick_runs.quick


@pytest.fixture(autouse=True)
def weights_files(monkeypatch):
    """Lets the compact encoder, which has no weights to download, be given a file of them."""

    def build(name, image_size, weights=None, trainable=True, width=32, dtype="float32", **more):
        encoder = encoders.build_encoder(name, image_size, None, trainable, width, dtype, **more)
        if weights:
            if not os.path.exists(weights):
                raise InputError(f"encoder {name!r} with weights {weights!r} cannot be built")
            encoder.set_weights([np.full(value.shape, 0.01) for value in encoder.get_weights()])
        return encoder

    monkeypatch.setattr(models, "build_encoder", build)
    monkeypatch.setattr("zoo.captioning.configuration.CaptioningConfig.check", lambda config: None)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, quick):
    """A run with a frozen encoder whose weights came from a file that is gone since."""
    directory = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        captioning.use(patch)
        weights_files.__wrapped__(patch)
        (directory / "weights").write_text("")
        weights = f"--config.encoder.weights={directory / 'weights'}"
        assert captioning.run("train", directory / "run", *FROZEN, weights) == 0
        (directory / "weights").unlink()
    return directory / "run"


@pytest.fixture
def copy(trained, tmp_path):
    return shutil.copytree(trained, tmp_path / "run")


def weights_argument(workdir):
    return f"--config.encoder.weights={read_config(Workdir(workdir)).encoder.weights}"


def experiment_of(workdir):
    directory = Workdir(workdir)
    return CaptioningExperiment(read_config(directory), directory, None)


def features_and_encoder(experiment):
    """The features that training reads, and those that the encoder makes now."""
    size = experiment.config.encoder.image_size
    now = features_of(experiment.model.network.encoder, experiment.data.train.images, size)
    return experiment.batches._features, now


def test_a_new_run_needs_the_file(tmp_path, capsys):
    assert captioning.run("train", tmp_path / "run", *FROZEN, "--config.encoder.weights=none") == 2
    assert "with weights 'none' cannot be built" in capsys.readouterr().err
    assert not (tmp_path / "run" / "config.json").exists()


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["evaluate", "prune"])
def test_a_run_that_has_trained_is_scored_without_it(copy, mode):
    assert captioning.run(mode, copy) == 0


@pytest.mark.slow
def test_and_goes_on_without_it(copy, trained):
    more = (*FROZEN[:-1], "--config.train.epochs=2", weights_argument(copy))
    assert captioning.run("train", copy, *more) == 0
    assert [line["epoch"] for line in captioning.metrics(copy)] == [1, 2]


@pytest.mark.slow
@pytest.mark.parametrize("lost", ["none", "latest", "best"])
def test_features_are_of_the_encoder_in_the_checkpoint(copy, lost):
    for path in (copy / "checkpoints" / ("best" if lost == "best" else ".")).glob("ckpt-*.index"):
        if lost != "none":
            path.write_bytes(b"")
    read, made = features_and_encoder(experiment_of(copy))
    np.testing.assert_array_equal(read, made)
    encoder = experiment_of(copy).model.network.encoder
    kernel = next(value for value in encoder.get_weights() if value.ndim == 4)
    np.testing.assert_array_equal(kernel, np.full(kernel.shape, 0.01, np.float32))


@pytest.mark.slow
def test_features_of_a_run_that_starts_from_another_are_of_that_ones_encoder(trained, tmp_path):
    """Not of an encoder as it is before it is given its weights."""
    config = captioning.config_of(
        **{"encoder.trainable": False, "data.shift": False, "data.flip": False},
        **{"train.start_from": str(trained), "encoder.weights": str(Path("a", "file", "that", "is", "none"))},
    )
    experiment = CaptioningExperiment(config, Workdir(tmp_path / "run"), None)
    read, made = features_and_encoder(experiment)
    np.testing.assert_array_equal(read, made)
    np.testing.assert_array_equal(read, features_and_encoder(experiment_of(trained))[0])
