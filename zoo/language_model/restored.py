"""The model that a run of the language model has left in its workdir."""

from __future__ import annotations

from typing import NamedTuple

from ml_collections import ConfigDict

from tfp_bayesrnn import BayesianModel
from tfp_bayesrnn.checkpoints import Checkpoints
from tfp_bayesrnn.errors import InputError
from zoo.data.vocabulary import Vocabulary
from zoo.language_model.model import build_model
from zoo.training_run import restore_best_of
from zoo.workdir import Workdir


class Restored(NamedTuple):
    """A trained model, compiled, the vocabulary of its words, and the step of its checkpoint."""

    model: BayesianModel
    vocabulary: Vocabulary
    step: int


def restored(config: ConfigDict, workdir: Workdir) -> Restored:
    """The best checkpoint's model. The data it was trained on are not needed, so it cannot be trained on.

    Args:
      config: the run's, resolved.
      workdir: the run's.

    Raises:
      InputError: the model is not a language model; the workdir has no vocabulary or no best checkpoint.
    """
    if config.task != "language_model":
        raise InputError(
            f"workdir {workdir.path} is of {config.preset!r}, a {config.task.replace('_', ' ')} model: a "
            "language model's is needed"
        )
    vocabulary = Vocabulary.load(workdir.vocabulary_path)
    model = build_model(config, len(vocabulary), windows_per_epoch=1)
    step = restore_best_of(Checkpoints(workdir.checkpoints_dir, {"model": model}, writes=False), workdir)
    return Restored(model, vocabulary, step)
