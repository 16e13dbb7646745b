"""The model that a run has left in its workdir."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, NamedTuple, TypeVar, overload

from tfp_bayesrnn import BayesianModel
from tfp_bayesrnn.loop.checkpoints import Checkpoints
from zoo.data.vocabulary import Vocabulary
from zoo.runs.run_data import read_vocabulary
from zoo.runs.settings import Config, RunConfig
from zoo.runs.training_run import restore_best_of
from zoo.runs.workdir import Workdir

Words = TypeVar("Words", bound=Vocabulary | None)


class Restored(NamedTuple, Generic[Words]):
    """A trained model, compiled; the vocabulary of its words (None: it has none); its checkpoint's step."""

    model: BayesianModel
    vocabulary: Words
    step: int


@overload
def restored(
    restorable: Callable[[Config, Vocabulary, Workdir], BayesianModel], config: Config, workdir: Workdir
) -> Restored[Vocabulary]: ...


@overload
def restored(
    restorable: Callable[..., BayesianModel], config: RunConfig, workdir: Workdir, has_vocabulary: bool
) -> Restored[Vocabulary | None]: ...


def restored(
    restorable: Callable[..., BayesianModel],
    config: RunConfig,
    workdir: Workdir,
    has_vocabulary: bool = True,
) -> Restored[Any]:
    """The best checkpoint's model. The data it was trained on are not needed, so it cannot be trained on.

    Args:
      restorable: makes the model, as `zoo.task.Task.restorable` does.
      config: the run's configuration, resolved.
      workdir: the run's workdir.
      has_vocabulary: whether the run keeps a vocabulary.

    Raises:
      InputError: the workdir has no vocabulary or no best checkpoint.
    """
    vocabulary = read_vocabulary(workdir) if has_vocabulary else None
    model = restorable(config, vocabulary, workdir)
    step = restore_best_of(Checkpoints(workdir.checkpoints_dir, {"model": model}, writes=False), workdir)
    return Restored(model, vocabulary, step)
