"""A task as one record, which ends its folder and is one line of `zoo.registry`.

The record says what the rest of the zoo has to know of a task: what its configurations are, which models it
trains on what, and what else can be done with them. Nothing outside of the task's folder asks which task it
has before it; it asks the record. Parts that a task has none of are None, or missing from `modes`.

Listing presets and `--help` read the records, so a record's module imports no TensorFlow: functions that need
it stand in it as `zoo.later.later(module, name)`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from zoo.runs.settings import RunConfig


@dataclass(frozen=True, kw_only=True)
class Task:
    """A task of the zoo.

    In what follows (config) is a configuration of the task.

    Attributes:
      name: its name in the field `task` of configurations.
      label: the name of one of its models, as in "a language model".
      about: the purpose of its models, in words, for a report.
      config: the class of its configurations.
      presets: the presets by name, in the order in which they are listed, as plain data: what differs from
        the defaults of `config`.
      size: (config) -> the size of its model in a word or two, such as "2x650".
      load_data: (config, data_dir) -> the data, as `zoo.runs.run_data.Data` describes them.
      model_for: (config, data or None) -> the compiled `BayesianModel`, untrained; without data, where their
        sizes are known. It raises InputError where they are not.
      restorable: (config, vocabulary or None, workdir) -> the same to be restored from a checkpoint: nothing
        of it depends on the data but the vocabulary, and no file is read but what the workdir keeps.
      experiment: (config, workdir, data_dir, strategy or None) -> the run, `zoo.runs.experiment.Experiment`.
      export: (config, model, exported, vocabulary, folder of assets) -> what a SavedModel holds and what is
        said about it; None where models of the task cannot be exported.
      report_section: (contents, a `zoo.page.contents.Contents`) -> the section of a report
        that shows the model at work; None where there is none.
      report_tables: (contents, results) -> what stands below the table of perplexities, as a list; None where
        there is nothing more.
      has_vocabulary: whether the data are words, so that a run keeps its vocabulary.
      scores_text: whether its models say of every word of a text how probable it was, given those before it:
        these are what the uncertainty benchmark compares.
      modes: modes of the command line that not every task has, by their names: what they run.
    """

    name: str
    label: str
    about: str
    config: type[RunConfig]
    presets: Mapping[str, Mapping[str, Any]]
    size: Callable[[Any], str]
    load_data: Callable[..., Any]
    model_for: Callable[..., Any]
    restorable: Callable[..., Any]
    experiment: Callable[..., Any]
    export: Callable[..., Any] | None = None
    report_section: Callable[..., Any] | None = None
    report_tables: Callable[..., Any] | None = None
    has_vocabulary: bool = True
    scores_text: bool = False
    modes: Mapping[str, Callable[..., Any]] = field(default_factory=dict)
