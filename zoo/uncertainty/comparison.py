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

from tfp_bayesrnn.errors import InputError, quoted
from tfp_bayesrnn.filesystem.paths import local_path
from zoo.configuration import limits
from zoo.configuration.fields import flatten
from zoo.data.corpus import Corpus, load_corpus
from zoo.data.vocabulary import Vocabulary
from zoo.filesystem.files import explained, is_file, to_jsonable, write_whole
from zoo.filesystem.writable import check_file_writable
from zoo.registry import read_config, task_of
from zoo.runs.run_data import data_dir_of
from zoo.runs.workdir import Workdir
from zoo.terminal import progress
from zoo.uncertainty.benchmark import measure
from zoo.uncertainty.diagrams import entropies_svg, reliability_svg
from zoo.uncertainty.differences import differences, replicate
from zoo.uncertainty.files_of_results import as_csv, as_json, differences_table, table
from zoo.uncertainty.generation import Generation
from zoo.uncertainty.kept import KeptScorer, fingerprint
from zoo.uncertainty.prompting import make_generation
from zoo.uncertainty.records import Records
from zoo.uncertainty.scorers import ModelScorer, Scorer
from zoo.uncertainty.sources import Settings, open_ensemble, open_source, opener_of, path_of
from zoo.uncertainty.streams import Stream, make_streams
from zoo.uncertainty.table import summary
from zoo.uncertainty.text_models import config_of

DEFAULT_SWAPS = "5,10,20,30,50"
"""Per cent of the test text's words that are moved, by default."""

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
    swaps: str = DEFAULT_SWAPS,
    prompts: int | None = None,
    judge: str | None = None,
) -> dict[str, Any]:
    """Scores models on the test text and on others; writes the results and prints the table.

    What a model says of a text is written as soon as it is known, and read again by the next comparison that
    needs it; the results are written after each model.

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
      swaps: per cent of the test text's words that change places, between commas, a text for each; "0": none.
      prompts: the number of beginnings of sentences that every model continues; None: 200 where continuations
        can be judged.
      judge: a model that judges continuations where the language is not known exactly; named as in `compare`.

    Returns:
      The results, as the file has them.

    Raises:
      InputError: something of this cannot be used.
    """
    if not 1 <= window <= limits.COUNT:
        raise InputError(f"windows of {window} words: accepted 1 or more, at most {limits.COUNT}")
    severities = _severities(swaps)
    workdir = os.fspath(local_path(workdir, "--workdir"))
    sources, data, run = _chosen(workdir, compare, data, ensemble)
    corpus = _corpus(run, data, data_dir)
    of_run = {} if run is None else flatten(read_config(run))
    settings = Settings(samples, seed, rows, unroll or of_run.get("evaluate.final_unroll") or 100)
    models = max(len(ensemble), 1)
    settings = _within_memory(settings, len(corpus.vocabulary), models)
    lowercase = of_run.get("data.lowercase", False)
    streams = make_streams(
        corpus.test, corpus.vocabulary, texts, words, seed, corpus.train, severities, lowercase
    )
    generation = make_generation(corpus, prompts, judge, settings, models)
    directory = Workdir(workdir)
    _write_texts(directory, streams, corpus.vocabulary)
    comparison = Comparison(directory, corpus, streams, settings, window, generation, words)
    try:
        for of_scorer, scorer in _opened(sources, ensemble, corpus.vocabulary, settings):
            comparison.add(of_scorer, scorer)
    finally:
        if comparison.results["methods"]:
            print(summary(comparison.results), flush=True)
    return comparison.results


class Comparison:
    """The models that are scored so far."""

    def __init__(
        self,
        directory: Workdir,
        corpus: Corpus,
        streams: dict[str, Stream],
        settings: Settings,
        window: int,
        generation: Generation | None,
        words: int = 0,
    ):
        """Begins one without a model; for the arguments see `compare_models` and `make_streams`."""
        self._directory, self._streams, self._window = directory, streams, window
        self._settings, self._generation, self._size = settings, generation, len(corpus.vocabulary)
        valid = np.asarray(corpus.valid, np.int32)[: words or None]
        self._valid = Stream(valid, "the validation text") if len(valid) > 1 else None
        self._replicates: list[dict[str, np.ndarray]] = []
        self.results: dict[str, Any] = {
            "task": "uncertainty",
            "data": corpus.name,
            "vocabulary": self._size,
            "seed": settings.seed,
            "samples": settings.samples,
            "unroll": settings.unroll,
            "window": window,
            "streams": {name: _described(stream) for name, stream in streams.items()},
            "methods": [],
            "differences": [],
        }

    def add(self, sources: Sequence[str], scorer: Scorer) -> None:
        """Scores a model, of one source or more, and writes the results with it. It is named first."""
        logging.info("scoring %s", ", ".join(filter(None, (scorer.name, scorer.weights))))
        identity = fingerprint(sources)
        keeper = scorer
        if identity is not None:
            settings = [identity, dataclasses.astuple(self._settings)]
            keeper = KeptScorer(scorer, self._directory.path / FILES / "records", settings)
        records: dict[str, Records] = {}
        method = measure(
            keeper,
            self._streams,
            self._size,
            self._window,
            progress=progress.windows,
            valid=self._valid,
            keep=records.__setitem__,
        )
        method["source"] = ", ".join(sources)
        method["generation"] = None
        if self._generation is not None and isinstance(scorer, ModelScorer):
            method["generation"] = self._generation.figures(scorer.predictor)
        self.results["methods"].append(method)
        self._replicates.append(replicate(records, self._window, self._settings.seed))
        self.results["differences"] = differences(self._replicates)
        write(self._directory, self.results)


def _opened(
    sources: Sequence[str], ensemble: Sequence[str], vocabulary: Vocabulary, settings: Settings
) -> Iterator[tuple[Sequence[str], Scorer]]:
    """The rows of the table, each opened when it is its turn: of every source, and of the ensemble."""
    for source in sources:
        for scorer in open_source(source, vocabulary, settings):
            yield [source], scorer
    if ensemble:
        for scorer in open_ensemble(ensemble, vocabulary, settings):
            yield ensemble, scorer


def write(directory: Workdir, results: dict[str, Any]) -> None:
    """Writes `uncertainty.json`, the tables and the diagrams."""
    directory.write_json(directory.uncertainty_path, results)
    results = to_jsonable(results)
    files, methods = directory.path / FILES, results["methods"]
    write_whole(files / "reliability.svg", reliability_svg(methods))
    write_whole(files / "reliability_equal_mass.svg", reliability_svg(methods, equal_mass=True))
    names = [name for name, stream in results["streams"].items() if stream["severity"] is None]
    write_whole(files / "entropies.svg", entropies_svg(methods, names))
    rows = table(results)
    write_whole(files / "table.json", as_json(rows))
    write_whole(files / "table.csv", as_csv(rows))
    write_whole(files / "differences.csv", as_csv(differences_table(results)))


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


def _severities(swaps: str) -> list[int]:
    """The severities without repetition, from the lowest up."""
    try:
        given = {int(one) for one in swaps.split(",")}
    except ValueError:
        given = {-1}
    if not all(0 <= one <= 100 for one in given):
        raise InputError(
            f"--swaps={quoted(swaps)} is not accepted: it must be whole per cents, at most 100, with commas "
            f"between them, such as {DEFAULT_SWAPS}, or 0 for none"
        )
    return sorted(given - {0})


def _described(stream: Stream) -> dict[str, Any]:
    return {
        "description": stream.description,
        "predictions": stream.predictions,
        "unknown_words": stream.unknown,
        "unknown_share": None if stream.is_unknown is None else float(np.mean(stream.is_unknown)),
        "severity": stream.severity,
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
