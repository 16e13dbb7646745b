"""A language model as a SavedModel, and what is said about it."""

from __future__ import annotations

import os
from typing import Any

from tfp_bayesrnn import BayesianModel
from tfp_bayesrnn.export.saved_model import ExportedPosterior
from zoo.data.vocabulary import Vocabulary
from zoo.language_model.configuration import LanguageModelConfig
from zoo.language_model.signatures import LanguageModelExport
from zoo.signatures.sampling import MAX_WORDS


def export(
    config: LanguageModelConfig,
    model: BayesianModel,
    exported: ExportedPosterior,
    vocabulary: Vocabulary,
    directory: str | os.PathLike[str],
) -> tuple[LanguageModelExport, dict[str, Any]]:
    """Returns what a run's SavedModel holds, and what `signatures.json` says about it, with an example call.

    Args:
      config: the run's configuration, resolved.
      model: the run's model.
      exported: the weights of the model's network.
      vocabulary: the vocabulary of its words.
      directory: the directory that `Words` takes.
    """
    lowercase = config.data.lowercase
    made = LanguageModelExport(model.network, exported, vocabulary, directory, lowercase)
    text = " ".join([word for word in vocabulary.words if word.isalpha()][:3])
    example = f'model.signatures["score_text"](text=tf.constant([{text!r}]))["log_probs"]'
    sizes = {"state_size": made.state_size, "max_words": MAX_WORDS}
    return made, {**sizes, "lowercase": lowercase, "example": example}
