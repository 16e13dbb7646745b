"""The model that a run has left in its workdir."""

from __future__ import annotations

from typing import NamedTuple

from ml_collections import ConfigDict

from tfp_bayesrnn import BayesianModel
from tfp_bayesrnn.errors import InputError
from tfp_bayesrnn.loop.checkpoints import Checkpoints
from zoo.captioning import model as captioning
from zoo.configuration import config as configs
from zoo.data.vocabulary import Vocabulary
from zoo.language_model import model as language_model
from zoo.runs.run_data import read_vocabulary
from zoo.runs.training_run import restore_best_of
from zoo.runs.workdir import Workdir
from zoo.tasks import MODELS


class Restored(NamedTuple):
    """A trained model, compiled, the vocabulary of its words, and the step of its checkpoint."""

    model: BayesianModel
    vocabulary: Vocabulary
    step: int


def restored(config: ConfigDict, workdir: Workdir, task: str | None = None) -> Restored:
    """The best checkpoint's model. The data it was trained on are not needed, so it cannot be trained on.

    Args:
      config: the run's, resolved.
      workdir: the run's.
      task: what the model must be for; None: any task.

    Raises:
      InputError: the model is for another task; the workdir has no vocabulary or no best checkpoint.
    """
    if task not in (None, config.task):
        raise InputError(
            f"workdir {workdir.path} is of {config.preset!r}, a {MODELS[config.task]}: a {MODELS[task]} is "
            "needed"
        )
    vocabulary = read_vocabulary(workdir)
    model = _UNTRAINED[config.task](config, len(vocabulary))
    step = restore_best_of(Checkpoints(workdir.checkpoints_dir, {"model": model}, writes=False), workdir)
    return Restored(model, vocabulary, step)


def _language_model(config: ConfigDict, words: int) -> BayesianModel:
    return language_model.build_model(config, words, windows_per_epoch=1)


def _captioning_model(config: ConfigDict, words: int) -> BayesianModel:
    # The checkpoint has the encoder's weights too: none are downloaded to be overwritten.
    config = configs.with_overrides(config, {"encoder.weights": ""})
    return captioning.build_model(config, words, training_images=1, steps_per_epoch=1)


_UNTRAINED = {"captioning": _captioning_model, "language_model": _language_model}
