"""All data sets of the zoo, a line each: a data set is a file with a function that reads it, and a line here.

TensorFlow is not imported: listing presets does without.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from zoo.later import later


class Dataset(NamedTuple):
    """A data set.

    Attributes:
      name: its name in the field `data.name` of a configuration.
      about: its name in descriptions.
      read: reads the data from --data_dir, where given: of a text the vocabulary, the three splits as
        streams of ids by their names and, where it is known, the entropy rate; of captions the three splits
        (`zoo.data.captions.CaptionSplit`) by their names; of series the `zoo.data.series.SeriesSet`.
      made: the way it comes about, for one that reads no files.
      needs: the files that --data_dir must hold, for one that is found nowhere else.
      sizes: words of the vocabulary and tokens of training, where they are known without reading it.
      options: the fields of the table `data` of a configuration, besides the name, that `read` takes.
      min_count: the number of times that a caption's word has to occur by default; others are unknown words.
      readable: of a text whose language is known exactly, a function of the words of a sentence: how many of
        them, from the first on, some sentence of the language begins with.
    """

    name: str
    about: str
    read: Callable[..., Any]
    made: str | None = None
    needs: str | None = None
    sizes: tuple[int, int] | None = None
    options: tuple[str, ...] = ()
    min_count: int = 1
    readable: Callable[[Sequence[str]], int] | None = None


_TEXT = "a directory with train.txt, valid.txt and test.txt"
_WIKITEXT2 = (
    "the directory wikitext-2 of wikitext-2-v1.zip, with wiki.train.tokens, wiki.valid.tokens and "
    "wiki.test.tokens"
)

CORPORA: Mapping[str, Dataset] = {
    one.name: one
    for one in (
        Dataset(
            "builtin",
            "the built-in corpus",
            later("zoo.data.builtin", "builtin_corpus"),
            made="generated",
            readable=later("zoo.data.builtin", "readable_words"),
        ),
        Dataset("ptb", "Penn Treebank", later("zoo.data.ptb", "load_ptb"), sizes=(10_000, 929_589)),
        Dataset(
            "text",
            "your own text files",
            later("zoo.data.text", "read_directory"),
            needs=_TEXT,
            options=("min_count", "max_words", "lowercase"),
        ),
        Dataset("wikitext2", "WikiText-2", later("zoo.data.text", "read_wikitext2"), needs=_WIKITEXT2),
    )
}
"""Texts, by name."""

# Vinyals et al. (2015) take words that occur 5 times.
CAPTION_SETS: dict[str, Dataset] = {
    one.name: one
    for one in (
        Dataset(
            "builtin_shapes",
            "the built-in drawings",
            later("zoo.data.shapes", "builtin_shapes"),
            made="drawn",
        ),
        Dataset("flickr8k", "Flickr8k", later("zoo.data.flickr8k", "load_flickr8k"), min_count=5),
        Dataset("coco_captions", "COCO", later("zoo.data.coco", "load_coco"), min_count=5),
    )
}
"""Images with captions, by name."""

_SERIES_FILE = "a directory with series.csv"
_INSTALLED = "read from an installed package"

SERIES_SETS: Mapping[str, Dataset] = {
    one.name: one
    for one in (
        Dataset(
            "builtin_series",
            "the built-in series",
            later("zoo.data.generated_series", "generated_series"),
            made="generated",
        ),
        Dataset(
            "series", "your own series", later("zoo.data.series_file", "read_series_file"), needs=_SERIES_FILE
        ),
        *(
            Dataset(name, about, later("zoo.data.competitions", name), made=_INSTALLED)
            for name, about in (
                ("tourism_monthly", "the monthly series of the Tourism competition"),
                ("tourism_quarterly", "the quarterly series of the Tourism competition"),
                ("tourism_yearly", "the yearly series of the Tourism competition"),
                ("m1_monthly", "the monthly series of the M competition"),
                ("m1_quarterly", "the quarterly series of the M competition"),
                ("m3_monthly", "the monthly series of the M3 competition"),
                ("m3_quarterly", "the quarterly series of the M3 competition"),
            )
        ),
        Dataset(
            "electricity",
            "half-hourly electricity demand with temperature",
            later("zoo.data.electricity", "electricity"),
            made=_INSTALLED,
        ),
    )
}
"""Series, by name."""


def read_dataset(known: Mapping[str, Dataset], name: str, data_dir: Any | None = None, **options: Any) -> Any:
    """Reads a data set by its name and returns what its `read` returns.

    Args:
      known: the data sets of the kind that is wanted, by name.
      name: the data set's name.
      data_dir: the directory with its files.
      **options: what `read` is told besides, by the names of `Dataset.options`.

    Raises:
      InputError: the name is unknown, `data_dir` is missing or needless, or files cannot be used.
    """
    from tfp_bayesrnn.errors import InputError, unknown_name

    if name not in known:
        raise unknown_name("dataset", name, known)
    dataset = known[name]
    if dataset.made is not None:
        if data_dir is not None:
            raise InputError(
                f"dataset {name!r} is {dataset.made} and reads no data directory; got {str(data_dir)!r}"
            )
        return dataset.read(**options)
    if data_dir is None and dataset.needs is not None:
        raise InputError(f"dataset {name!r} needs a data directory: pass --data_dir=DIR, {dataset.needs}")
    return dataset.read(data_dir, **options)
