"""The ways words of a continuation are chosen, and the checks of a command line that asks for one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from tfp_bayesrnn.errors import InputError
from zoo.configuration import limits, methods
from zoo.data.vocabulary import EOS, UNK, Vocabulary
from zoo.decoding.sampling import HIGHEST_TEMPERATURE, LOWEST_TEMPERATURE
from zoo.language_model.configuration import LanguageModelConfig
from zoo.terminal import colours
from zoo.terminal.text import shortened

DECODE_CHOICES = ("sample", "greedy", "beam")
DEFAULT_BEAM = 5


@dataclass(frozen=True)
class Choice:
    """The way words are chosen, by the flags of the same names; None where a flag is not given.

    Args:
      decode: "sample", "greedy" (the most probable word each time) or "beam".
      temperature: the temperature of sampling, 1 if not given.
      top_k: the number of most probable words that are sampled from, all if not given or 0.
      top_p: the probability of those that are sampled from, all if not given.
      beam: the number of beams of beam search, `DEFAULT_BEAM` if not given.

    Raises:
      InputError: a number that cannot be, or that another way of choosing has.
    """

    decode: str = "sample"
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    beam: int | None = None

    def __post_init__(self) -> None:
        if self.decode not in DECODE_CHOICES:
            _refuse("decode", self.decode, f"one of {', '.join(DECODE_CHOICES)}")
        for name, way in {
            "temperature": "sample",
            "top_k": "sample",
            "top_p": "sample",
            "beam": "beam",
        }.items():
            if getattr(self, name) is not None and self.decode != way:
                raise InputError(f"--{name} is for --decode={way}, not for --decode={self.decode}")
        lowest, highest = LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE
        if self.temperature is not None and not lowest <= self.temperature <= highest:
            accepted = f"a number above 0, at least {lowest:g} and at most {highest:g}"
            _refuse("temperature", self.temperature, accepted)
        if self.top_k is not None and not 0 <= self.top_k <= limits.WHOLE:
            _refuse("top_k", self.top_k, f"a whole number, at least 0 and at most {limits.WHOLE}")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            _refuse("top_p", self.top_p, "a number above 0, at most 1")
        if self.beam is not None and not 1 <= self.beam <= limits.BEAMS:
            _refuse("beam", self.beam, f"a whole number, at least 1 and at most {limits.BEAMS}")

    @property
    def beams(self) -> int:
        """The number of beams; 1 where there is no beam search."""
        return (self.beam or DEFAULT_BEAM) if self.decode == "beam" else 1

    @property
    def sampling(self) -> dict[str, Any] | None:
        """Arguments of `zoo.decoding.sampling.sample`; None where words are not sampled."""
        if self.decode != "sample":
            return None
        given = {"temperature": self.temperature, "top_k": self.top_k, "top_p": self.top_p}
        return {name: value for name, value in given.items() if value is not None}

    def __str__(self) -> str:
        if self.decode == "beam":
            return f"beam {self.beams}"
        if self.sampling is None:
            return "the most probable word each time"
        details = ", ".join(f"{name} {value:g}" for name, value in self.sampling.items())
        return f"sampled ({details})" if details else "sampled"


def _refuse(flag: str, value: Any, accepted: str) -> NoReturn:
    raise InputError(f"--{flag}={shortened(str(value))} is not accepted: it must be {accepted}")


def check(
    config: LanguageModelConfig,
    choice: Choice,
    max_words: int,
    continuations: int,
    draw_per_continuation: bool,
    color: str,
) -> None:
    """Raises InputError for what can be seen without the model."""
    for flag, value, least, most in (
        ("max_words", max_words, 1, limits.WORDS),
        ("continuations", continuations, 1, limits.CONTINUATIONS),
        ("num_samples", config.evaluate.num_samples, 0, limits.DRAWS_IN_A_GRAPH),
    ):
        if not least <= value <= most:
            _refuse(flag, value, f"a whole number, at least {least} and at most {most}")
    if color not in colours.COLOUR_CHOICES:
        _refuse("color", color, f"one of {', '.join(colours.COLOUR_CHOICES)}")
    if draw_per_continuation and config.method not in methods.BAYESIAN_METHODS:
        raise InputError(
            "--draw_per_continuation needs a Bayesian method: a model of method "
            f"{config.method!r} has one set of weights"
        )
    if choice.sampling is None and not draw_per_continuation and continuations > choice.beams:
        raise InputError(
            f"--continuations={continuations} is not accepted: --decode={choice.decode} finds {choice.beams} "
            "of each prompt; accepted for more: --decode=sample, --decode=beam with a larger --beam, or "
            "--draw_per_continuation"
        )


def check_vocabulary(
    vocabulary: Vocabulary, choice: Choice, end_at_eos: bool, forbidden: Sequence[str]
) -> None:
    """Raises InputError for what the model's vocabulary does not allow."""
    if end_at_eos and EOS not in vocabulary:
        raise InputError(f"--end_at_eos needs {EOS} in the vocabulary of the model, which lacks it")
    words = len(vocabulary) - len(forbidden) - end_at_eos
    if not words:
        raise InputError(f"the model's vocabulary has no word besides {UNK} and {EOS} to generate")
    if choice.beams > words:
        _refuse("beam", choice.beams, f"at most {words}, the number of words that may be generated")
