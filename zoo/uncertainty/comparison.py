"""The command `uncertainty`: models side by side, one table, and the files of it."""

from __future__ import annotations

import dataclasses
import io
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from absl import logging

from tfp_bayesrnn.errors import InputError
from tfp_bayesrnn.filesystem.paths import local_path
from zoo.configuration import limits
from zoo.configuration.fields import flatten
from zoo.data.corpus import Corpus, load_corpus
from zoo.data.vocabulary import Vocabulary
from zoo.filesystem.files import explained, is_file, to_jsonable, write_whole
from zoo.filesystem.writable import check_file_writable, printed_after
from zoo.registry import read_config, task_of
from zoo.runs.run_data import data_dir_of
from zoo.runs.workdir import Workdir
from zoo.terminal import progress
from zoo.uncertainty.benchmark import measure
from zoo.uncertainty.diagrams import entropies_svg, reliability_svg
from zoo.uncertainty.scorers import Scorer
from zoo.uncertainty.sources import Settings, open_ensemble, open_source, opener_of, path_of
from zoo.uncertainty.streams import Stream, make_streams
from zoo.uncertainty.table import summary
from zoo.uncertainty.text_models import config_of

FILES = "uncertainty"
"""What a workdir receives beside the figures: a directory with diagrams, texts and vocabulary."""

# Probabilities of a window, all samples and rows together, which memory holds a few times; and those of one
# word of each row, the least that there can be, at most.
_AT_ONCE, _MOST_AT_ONCE = 2**26, 2**30


def compare_models(
    workdir: str,
    compare: Sequence[str] = (),
    data: str | None = None,
    data_dir: str | None = None,
    texts: Sequence[str] = (),
    samples: int = 10,
    rows: int = 1,
    unroll: int = 0,
    words: int = 0,
    window: int = 35,
    seed: int = 0,
    ensemble: Sequence[str] = (),
) -> dict[str, Any]:
    """Scores models on the test text and on others; writes the results and prints the table.

    Args:
      workdir: receives `uncertainty.json` and the directory `uncertainty`. If a trained language model is in
        it, that is the first to be scored; else it is made where it does not exist.
      compare: further models, as `zoo.uncertainty.sources` names them.
      data: the name of the data set; None for that of the first workdir.
      data_dir: the data set's directory, where it needs one; None for that of the first workdir's run.
      texts: files of other text.
      samples: the number of draws in the averages, S; 0: means only.
      rows: the number of rows a text is cut into; 1, as for final figures, reads it as one.
      unroll: words of a window; 0 for what the first workdir's configuration has for final figures, or 100.
      words: the number of words taken from each text; 0: all.
      window: the number of words whose mean uncertainty tells texts apart.
      seed: the seed of the draws, and of the shuffled and random words.
      ensemble: models that are scored together, as the average of their probabilities; named as in `compare`.

    Returns:
      The results, as the file has them.

    Raises:
      InputError: something of this cannot be used.
    """
    if not 1 <= window <= limits.COUNT:
        raise InputError(f"windows of {window} words: accepted 1 or more, at most {limits.COUNT}")
    workdir = os.fspath(local_path(workdir, "--workdir"))
    sources, data, run = _chosen(workdir, compare, data, ensemble)
    corpus = _corpus(run, data, data_dir)
    vocabulary, of_run = corpus.vocabulary, {} if run is None else flatten(read_config(run))
    settings = Settings(samples, seed, rows, unroll or of_run.get("evaluate.final_unroll") or 100)
    settings = _within_memory(settings, len(vocabulary), max(len(ensemble), 1))
    streams = make_streams(corpus.test, vocabulary, texts, words, seed, of_run.get("data.lowercase", False))
    directory = Workdir(workdir)
    _write_texts(directory, streams, vocabulary)
    results: dict[str, Any] = {
        "task": "uncertainty",
        "data": data,
        "vocabulary": len(vocabulary),
        "seed": seed,
        "samples": samples,
        "unroll": settings.unroll,
        "window": window,
        "streams": {name: _described(stream) for name, stream in streams.items()},
        "methods": [
            {**_measured(scorer, streams, len(vocabulary), window), "source": source}
            for source, scorer in _opened(sources, ensemble, vocabulary, settings)
        ],
    }
    with printed_after(lambda: summary(results)):
        write(directory, results)
    return results


def _opened(
    sources: Sequence[str], ensemble: Sequence[str], vocabulary: Vocabulary, settings: Settings
) -> Iterator[tuple[str, Scorer]]:
    """The rows of the table, each opened when it is its turn: of every source, and of the ensemble."""
    for source in sources:
        for scorer in open_source(source, vocabulary, settings):
            yield source, scorer
    if ensemble:
        for scorer in open_ensemble(ensemble, vocabulary, settings):
            yield ", ".join(ensemble), scorer


def _measured(scorer: Scorer, streams: dict[str, Stream], words: int, window: int) -> dict[str, Any]:
    """The figures of a model, which is named first: they take a while."""
    logging.info("scoring %s", ", ".join(filter(None, (scorer.name, scorer.weights))))
    return measure(scorer, streams, words, window, progress=progress.windows)


def write(directory: Workdir, results: dict[str, Any]) -> None:
    """Writes `uncertainty.json` and the diagrams."""
    directory.write_json(directory.uncertainty_path, results)
    results = to_jsonable(results)
    files, methods = directory.path / FILES, results["methods"]
    write_whole(files / "reliability.svg", reliability_svg(methods))
    write_whole(files / "reliability_equal_mass.svg", reliability_svg(methods, equal_mass=True))
    write_whole(files / "entropies.svg", entropies_svg(methods))


def _chosen(
    workdir: str, compare: Sequence[str], data: str | None, ensemble: Sequence[str]
) -> tuple[list[str], str, Workdir | None]:
    """The sources that are scored, the data, and the first workdir of a run among all that are named."""
    named = [workdir, *(path_of(source) for source in (*compare, *ensemble))]
    directories = [path for path in named if is_file(Path(path, "config.json"))]
    configs = [config_of(path) for path in directories]  # Of a model that scores no text it is an error.
    run = Workdir(directories[0], create=False) if directories else None
    data = data or (configs[0].data.name if configs else None)
    if data is None:
        raise InputError(
            f"workdir {workdir} holds no trained language model, and none is compared: say which data, "
            "such as --data=ptb"
        )
    sources = [*([workdir] if workdir in directories else []), *compare]
    if not sources and not ensemble:
        raise InputError(f"workdir {workdir} holds no trained model: say what to score with --compare=SOURCE")
    if len(ensemble) == 1:
        raise InputError(f"--ensemble={ensemble[0]} is not accepted alone: an ensemble has at least 2 models")
    for source in (*sources, *ensemble):
        opener_of(source)  # A wrong one is to be found before the others have been scored.
    return sources, data, run


def _corpus(run: Workdir | None, data: str, data_dir: str | None) -> Corpus:
    """The text of a data set, read as the run has read it where it is that of a run."""
    if run is not None:
        config = read_config(run)
        if config.data.name == data and task_of(config).scores_text:
            return task_of(config).load_data(config, data_dir_of(run, data, data_dir))
    return load_corpus(data, data_dir)


def _within_memory(settings: Settings, words: int, models: int = 1) -> Settings:
    """The settings, with a window no longer than memory holds the probabilities of."""
    at_once = models * max(settings.samples, 1) * settings.rows * words
    if at_once > _MOST_AT_ONCE:
        raise InputError(
            f"--num_samples={settings.samples} and --rows={settings.rows} are not accepted together: times "
            f"the {words} words of the vocabulary they must be at most {_MOST_AT_ONCE}"
        )
    return dataclasses.replace(settings, unroll=min(settings.unroll, max(_AT_ONCE // at_once, 1)))


def _described(stream: Stream) -> dict[str, Any]:
    return {
        "description": stream.description,
        "predictions": stream.predictions,
        "unknown_words": stream.unknown,
    }


def _write_texts(directory: Workdir, streams: dict[str, Stream], vocabulary: Vocabulary) -> None:
    """The texts and the vocabulary, once it is known that the figures can be written."""
    files = directory.path / FILES
    check_file_writable(directory.uncertainty_path)
    with explained(files, "create"):
        files.mkdir(exist_ok=True)
    _write_streams(files / "streams.npz", streams)
    vocabulary.save(files / "vocabulary.txt")


def _write_streams(path: Path, streams: dict[str, Stream]) -> None:
    """The ids of all texts, for whoever scores them with a program of their own."""
    content = io.BytesIO()
    arrays: dict[str, Any] = {name: stream.tokens for name, stream in streams.items()}
    np.savez_compressed(content, **arrays)  # Typed Any: the keyword of savez itself is a bool, no text.
    write_whole(path, content.getvalue())
