"""BLEU, ROUGE-L and CIDEr of captions, and METEOR and SPICE where Java is there.

All of them are the COCO caption evaluation's own: the scorers of the package pycocoevalcap.
"""

from __future__ import annotations

import contextlib
import importlib.util
import json
import math
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tfp_bayesrnn.errors import InputError

# METEOR takes 10 seconds for a thousand images, SPICE half an hour for some tens of thousands.
JAVA_LIMIT_SECONDS = 3600

LABELS = {
    "bleu1": "BLEU-1",
    "bleu2": "BLEU-2",
    "bleu3": "BLEU-3",
    "bleu4": "BLEU-4",
    "rouge_l": "ROUGE-L",
    "cider": "CIDEr",
    "meteor": "METEOR",
}
"""What tables call the scores, in the order of their columns."""

_EXTRA = "install them with: pip install 'tfp_bayesrnn[captions]'"
_SPICE_JAR = "stanford-corenlp-3.6.0.jar"

# Their Python classes wait for ever when their Java ends early, so they run in a process that can be ended.
# os._exit: METEOR's destructor waits for a lock that an error in it leaves taken.
_JAVA_SCORER = """
import importlib, json, os, sys
module, name = sys.argv[1:]
try:
    scorer = getattr(importlib.import_module(module), name)()
    result = json.dumps(float(scorer.compute_score(*json.load(sys.stdin))[0]))
except BaseException as error:
    print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
    os._exit(1)
print(result, flush=True)
os._exit(0)
"""


@dataclass(frozen=True, eq=False)
class CaptionScores:
    """Scores that tell how close captions come to people's; every one is larger for better captions.

    BLEU counts n-grams over all images together, so it is no mean over images; ROUGE-L and CIDEr are. CIDEr
    (precisely CIDEr-D) is between 0 and 10, the others between 0 and 1. CIDEr's word weights come from the
    references themselves: it compares only between captions of the same images.

    Attributes:
      bleu1: precision of single words, with the penalty for captions that are too short.
      bleu2: the geometric mean for 1-grams and 2-grams.
      bleu3: the same for 1-grams to 3-grams.
      bleu4: the same for 1-grams to 4-grams.
      rouge_l: F-measure (beta 1.2) of the longest common subsequence.
      cider: agreement in TF-IDF-weighted 1-grams to 4-grams.
      per_image: "bleu4", "rouge_l" and "cider" of each image alone, float64 [number of images], in the order
        of the candidates.
      meteor: None unless it was asked for and could be had.
      spice: None unless it was asked for and could be had.
      notes: a sentence for each thing to know about these figures, such as why METEOR is absent.
    """

    bleu1: float
    bleu2: float
    bleu3: float
    bleu4: float
    rouge_l: float
    cider: float
    per_image: dict[str, np.ndarray]
    meteor: float | None = None
    spice: float | None = None
    notes: tuple[str, ...] = ()

    def as_record(self) -> dict[str, float | int]:
        """The figures over all images for `results.json`, and "images", how many there are."""
        record: dict[str, float | int] = {"images": len(self.per_image["cider"])}
        for name in ("bleu1", "bleu2", "bleu3", "bleu4", "rouge_l", "cider", "meteor", "spice"):
            value = getattr(self, name)
            if value is not None:
                record[name] = value
        return record


def require() -> None:
    """Raises an `InputError` unless pycocoevalcap is installed: for a check before the captions are made."""
    try:
        import pycocoevalcap.bleu.bleu
        import pycocoevalcap.cider.cider
        import pycocoevalcap.rouge.rouge  # noqa: F401
    except ImportError as error:
        raise InputError(f"caption metrics need the package pycocoevalcap ({error}); {_EXTRA}") from None


def score(
    references: Mapping[str, Sequence[Sequence[str]]],
    candidates: Mapping[str, Sequence[str]],
    *,
    meteor: bool = False,
    spice: bool = False,
) -> CaptionScores:
    """Scores a caption of each image against people's captions of it.

    The captions are sequences of words, references and candidates tokenised already and in the same way, that
    of `zoo.data.captions.tokenise`. It comes close to the Stanford tokeniser that published figures were made
    with; where the two differ, figures differ a little.

    Args:
      references: the captions of each image by people, one or more, each of one word or more.
      candidates: the caption to score for each of the same images; it may have no words.
      meteor: whether METEOR is computed too; where it cannot be (no Java, say) a note tells why.
      spice: whether SPICE is computed too, with a note where it cannot be.

    Raises:
      InputError: pycocoevalcap is not installed, there is no image, the two have different images, an image
        has no reference, a reference has no words, or a word is empty or holds white space.
    """
    require()
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    truths, captions = _texts(references, candidates)
    bleu, bleu_per_image = Bleu(4).compute_score(truths, captions, verbose=0)
    rouge_l, rouge_l_per_image = Rouge().compute_score(truths, captions)
    cider, cider_per_image = Cider().compute_score(truths, captions)
    notes = []
    if len(captions) == 1:
        notes.append("CIDEr of a single image is 0 whatever its caption: words are weighted between images")
    values: dict[str, float | None] = {}
    for name, wanted, module in (
        ("METEOR", meteor, "pycocoevalcap.meteor.meteor"),
        ("SPICE", spice, "pycocoevalcap.spice.spice"),
    ):
        value, note = _java_score(name, module, truths, captions) if wanted else (None, None)
        values[name.lower()] = value
        if note is not None:
            notes.append(note)
    return CaptionScores(
        bleu1=float(bleu[0]),
        bleu2=float(bleu[1]),
        bleu3=float(bleu[2]),
        bleu4=float(bleu[3]),
        rouge_l=float(rouge_l),
        cider=float(cider),
        per_image={
            "bleu4": np.asarray(bleu_per_image[3], np.float64),
            "rouge_l": np.asarray(rouge_l_per_image, np.float64),
            "cider": np.asarray(cider_per_image, np.float64),
        },
        notes=tuple(notes),
        meteor=values["meteor"],
        spice=values["spice"],
    )


def _texts(
    references: Mapping[str, Sequence[Sequence[str]]], candidates: Mapping[str, Sequence[str]]
) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """Returns both for the scorers, in the candidates' order, as lists of words between single blanks."""
    if not candidates and not references:
        raise InputError("captions of 0 images cannot be scored: at least one image is needed")
    for what, those, others in (
        ("no caption to score", references, candidates),
        ("no references", candidates, references),
    ):
        missing = [name for name in those if name not in others]
        if missing:
            more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
            names = ", ".join(repr(name) for name in missing[:3])
            raise InputError(f"there is {what} for {names}{more}: every image needs both")
    truths, captions = {}, {}
    for name, caption in candidates.items():
        captions[name] = [_text(caption, f"the caption of {name!r}")]
        truths[name] = [
            _text(reference, f"reference {index} of {name!r}")
            for index, reference in enumerate(references[name])
        ]
        if not truths[name]:
            raise InputError(f"{name!r} has no reference: at least one is needed")
        if "" in truths[name]:
            raise InputError(f"reference {truths[name].index('')} of {name!r} has no words: one is needed")
    return truths, captions


def _text(words: Sequence[str], where: str) -> str:
    if isinstance(words, str):
        raise ValueError(f"{where} should be a sequence of words. Received: {words!r}")
    for word in words:
        if word.split() != [word]:
            raise InputError(f"{where} has the word {word!r}: it must be one word, no white space")
    return " ".join(words)


def _java_score(
    name: str, module: str, truths: dict[str, list[str]], captions: dict[str, list[str]]
) -> tuple[float | None, str | None]:
    """The score over all images of a scorer that runs Java, or None and a note that says why not."""
    if shutil.which("java") is None:
        return None, f"{name} is absent: it needs Java, and there is no program java on PATH"
    if name == "SPICE":
        spec = importlib.util.find_spec("pycocoevalcap")
        if spec is None or not spec.submodule_search_locations:
            return None, f"{name} is absent: {_EXTRA}"
        folder = Path(spec.submodule_search_locations[0], "spice", "lib")
        # Left to itself it downloads programs, unverified, and runs them.
        if not (folder / _SPICE_JAR).is_file():
            return None, (
                f"SPICE is absent: it needs {_SPICE_JAR} in {folder}; "
                "python -m pycocoevalcap.spice.get_stanford_models downloads it"
            )
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", _JAVA_SCORER, module, name.capitalize()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
    )
    try:
        output, problems = process.communicate(json.dumps([truths, captions]), timeout=JAVA_LIMIT_SECONDS)
    except subprocess.TimeoutExpired:
        return None, f"{name} is absent: its Java was ended after {JAVA_LIMIT_SECONDS} seconds"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    value = float(output.split()[-1]) if process.returncode == 0 else math.nan
    if not math.isfinite(value):
        reason = (problems.strip().splitlines() or ["it gave no number"])[-1]
        return None, f"{name} is absent: its scorer failed ({reason})"
    return value, None
