"""Data of the zoo: corpora as streams of word ids, and the windows models are trained and scored on."""

from zoo.data.corpus import DATASETS, Corpus, load_corpus
from zoo.data.vocabulary import Vocabulary
from zoo.data.windows import Windows, evaluation_windows, train_windows

__all__ = [
    "DATASETS",
    "Corpus",
    "Vocabulary",
    "Windows",
    "evaluation_windows",
    "load_corpus",
    "train_windows",
]
