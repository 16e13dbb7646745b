"""The trained language model in a workdir, for what compares several models or joins them."""

from __future__ import annotations

from tfp_bayesrnn.errors import InputError
from zoo.data.vocabulary import Vocabulary
from zoo.registry import TASKS, read_config, task_of
from zoo.runs.restored import Restored, restored
from zoo.runs.settings import RunConfig
from zoo.runs.workdir import Workdir


def config_of(path: str) -> RunConfig:
    """The configuration of a run whose model scores text.

    Args:
      path: the run's workdir.

    Raises:
      InputError: the run is of another task.
    """
    workdir = Workdir(path, create=False)
    config = read_config(workdir)
    task = task_of(config)
    if not task.scores_text:
        able = " and ".join(f"{other.label}s" for other in TASKS.values() if other.scores_text)
        raise InputError(
            f"workdir {workdir.path} is of {config.preset!r}, a {task.label}: text is scored by {able} only"
        )
    return config


def text_model(path: str, vocabulary: Vocabulary | None) -> tuple[Restored, RunConfig]:
    """The best checkpoint's model of a run, and the run's configuration.

    Args:
      path: the run's workdir.
      vocabulary: the vocabulary that it must have.

    Raises:
      InputError: the run is of another task, has nothing trained, or has another vocabulary.
    """
    config = config_of(path)
    task = task_of(config)
    workdir = Workdir(path, create=False)
    found = restored(task.restorable, config, workdir, task.has_vocabulary)
    if found.vocabulary != vocabulary:
        own, wanted = (0 if one is None else len(one) for one in (found.vocabulary, vocabulary))
        raise InputError(
            f"workdir {path} has another vocabulary ({own} words) than the data of the benchmark "
            f"({wanted} words): models are compared on one test text"
        )
    return found, config
