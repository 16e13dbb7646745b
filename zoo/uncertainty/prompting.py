"""The prompts that models continue, and what their continuations are judged by."""

from __future__ import annotations

from tfp_bayesrnn.errors import InputError, quoted
from zoo.configuration import limits
from zoo.data.corpus import Corpus
from zoo.data.datasets import CORPORA
from zoo.uncertainty.generation import Generation, make_prompts
from zoo.uncertainty.scorers import ModelScorer
from zoo.uncertainty.sources import Settings, open_source

DEFAULT_PROMPTS = 200

_AT_ONCE = 2**25  # Probabilities in memory at a time.


def make_generation(
    corpus: Corpus, prompts: int | None, judge: str | None, settings: Settings, models: int = 1
) -> Generation | None:
    """What selective generation needs; None where there is to be none.

    Args:
      corpus: the data; its test text has the prompts.
      prompts: their number; None: 200 where continuations can be judged, else 0.
      judge: the source of the model that judges, by its mean, where the language is not known exactly.
      settings: the settings by which models are scored.
      models: the largest number of models that are scored together.

    Raises:
      InputError: there is nothing to judge by, or the judge gives no probabilities of every word.
    """
    readable = CORPORA[corpus.name].readable
    if prompts is None:
        prompts = DEFAULT_PROMPTS if readable is not None or judge is not None else 0
    if not 0 <= prompts <= limits.COUNT:
        raise InputError(f"{prompts} prompts: accepted 0 or more, at most {limits.COUNT}")
    if not prompts:
        return None
    at_once = max(_AT_ONCE // (models * max(settings.samples, 1) * len(corpus.vocabulary)), 1)
    if readable is not None:
        if judge is not None:
            raise InputError(
                f"--judge={quoted(judge)} is not accepted: the language of {corpus.name!r} is known exactly"
            )
        found = make_prompts(corpus.test, corpus.vocabulary, prompts)
        return Generation(found, corpus.vocabulary, readable, None, settings.seed, at_once)
    if judge is None:
        raise InputError(
            f"--prompts={prompts} needs --judge=SOURCE, a model that judges continuations: the language of "
            f"{corpus.name!r} is not known exactly"
        )
    scorer = open_source(judge, corpus.vocabulary, settings)[0]
    if not isinstance(scorer, ModelScorer):
        raise InputError(
            f"--judge={quoted(judge)} gives no probabilities of every word; accepted: workdirs, Keras files, "
            "functions and SavedModels of the next word"
        )
    found = make_prompts(corpus.test, corpus.vocabulary, prompts)
    return Generation(found, corpus.vocabulary, None, scorer.predictor, settings.seed, at_once)
