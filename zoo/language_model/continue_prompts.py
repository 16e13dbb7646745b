"""The command `generate`: continuations of prompts by a trained model, and how sure it is of each word."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from tfp_bayesrnn.errors import InputError
from tfp_bayesrnn.filesystem.paths import local_path
from zoo.configuration import config as configs
from zoo.configuration import limits, methods
from zoo.data.lines import decoded
from zoo.data.vocabulary import EOS, UNK, Vocabulary
from zoo.decoding import decoding
from zoo.filesystem.files import check_output, explained, to_jsonable
from zoo.filesystem.writable import check_openable
from zoo.language_model.configuration import LanguageModelConfig
from zoo.language_model.continuation_text import Shade, as_record, as_text_block, heading
from zoo.language_model.continuations import Generator
from zoo.language_model.model import restorable
from zoo.runs.restored import restored
from zoo.runs.workdir import Workdir
from zoo.terminal import terminal

DECODE_CHOICES = ("sample", "greedy", "beam")
DEFAULT_BEAM = 5

HIGHEST_MUTUAL_INFORMATION = 0.5
"""Nats, from which a word's shade is the darkest; most words of a model of Penn Treebank have 0.1 to 0.3."""

STANDARD = "-"
"""Stands for standard input among prompts, and for standard output as the output."""


@dataclass(frozen=True)
class Choice:
    """How words are chosen, by the flags of the same names; None where a flag is not given.

    Args:
      decode: "sample", "greedy" (the most probable word each time) or "beam".
      temperature: of sampling, 1 if not given.
      top_k: the most probable words that are sampled from, all if not given or 0.
      top_p: the probability of those that are sampled from, all if not given.
      beam: beams of beam search, `DEFAULT_BEAM` if not given.

    Raises:
      InputError: a number that cannot be, or that another way of choosing has.
    """

    decode: str = "sample"
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    beam: int | None = None

    def __post_init__(self):
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
        lowest, highest = decoding.LOWEST_TEMPERATURE, decoding.HIGHEST_TEMPERATURE
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
        """Beams; 1 where there is no beam search."""
        return (self.beam or DEFAULT_BEAM) if self.decode == "beam" else 1

    @property
    def sampling(self) -> dict[str, Any] | None:
        """Arguments of `zoo.decoding.decoding.sample`; None where words are not sampled."""
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


def continue_prompts(
    config: LanguageModelConfig,
    workdir: str,
    prompts: Iterable[str] | None = None,
    *,
    decode: str = "sample",
    temperature: float | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
    beam: int | None = None,
    max_words: int = 30,
    continuations: int = 1,
    draw_per_continuation: bool = False,
    allow_unk: bool = False,
    end_at_eos: bool = False,
    seed: int | None = None,
    color: str = "auto",
    output: str | os.PathLike[str] | None = None,
) -> None:
    """Continues prompts with the best checkpoint of a run; prints the texts and how sure the model is.

    Args:
      config: the run's; `evaluate.num_samples` says over how many draws of the weights probabilities are
        averaged (0: the posterior mean), unless each continuation has one of its own. Methods that are not
        Bayesian have one set of weights.
      workdir: the run's directory.
      prompts: texts; "-" stands for the lines of standard input, each a prompt, which are answered as they
        come. None: one of no words, behind which a sentence begins.
      decode: see `Choice`.
      temperature: see `Choice`.
      top_k: see `Choice`.
      top_p: see `Choice`.
      beam: see `Choice`.
      max_words: of a continuation at most; `<eos>`, the end of a line, is one.
      continuations: of each prompt. By beam search the best ones, at most as many as beams.
      draw_per_continuation: see `Generator`.
      allow_unk: whether `<unk>` may be generated.
      end_at_eos: whether a continuation ends with its line.
      seed: of draws and of sampling; None for the run's.
      color: "auto", "always" or "never", as `terminal.uses_colours` takes it: words are shaded by their
        mutual information with the weights where there are several draws, else by their entropy.
      output: a file for JSON lines, one for each continuation; "-": standard output, in place of the text.

    Raises:
      InputError: an argument is not accepted, a prompt cannot be read, the workdir holds no model that has
        been trained for an epoch, or the output cannot be written.
    """
    choice = Choice(decode, temperature, top_k, top_p, beam)
    _check(config, choice, max_words, continuations, draw_per_continuation, color)
    if seed is not None:
        config = configs.with_overrides(config, {"seed": seed})
        configs.validate(config)
    to_standard_output = output == STANDARD
    if output is not None and not to_standard_output:
        output = local_path(output, "--output")
        check_output(output)
        check_openable(output)
    is_bayesian = config.method in methods.BAYESIAN_METHODS
    directory = Workdir(workdir, create=False)
    model, vocabulary, step = restored(restorable, config, directory)
    forbidden = () if allow_unk or UNK not in vocabulary else (UNK,)
    _check_vocabulary(vocabulary, choice, end_at_eos, forbidden)
    samples = config.evaluate.num_samples if is_bayesian and not draw_per_continuation else 0
    draws = continuations if draw_per_continuation else samples
    generator = Generator(
        model,
        vocabulary,
        max_words,
        samples=samples,
        draw_per_continuation=draw_per_continuation,
        seed=config.seed,
        beam=choice.beams,
        sampling=choice.sampling,
        end_at_eos=end_at_eos,
        forbidden=forbidden,
    )
    shade = (
        Shade("mutual information", HIGHEST_MUTUAL_INFORMATION)
        if draws > 1
        else Shade("entropy", math.log(len(vocabulary)))
    )
    weights = _weights(is_bayesian, samples, draws)
    in_colour = terminal.uses_colours(color, sys.stdout)
    with ExitStack() as stack:
        put = _writer(output, stack)
        if not to_standard_output:
            ways = ", ".join(
                [weights, str(choice), f"seed {config.seed}", *(f"no {word}" for word in forbidden)]
            )
            print(f"{config.preset} ({methods.LABELS[config.method]}), best checkpoint: step {step}; {ways}")
            print(heading(shade, in_colour, draws > 1), flush=True)
        for number, prompt in enumerate(_prompts(prompts)):
            [found] = generator.generate([prompt], continuations, stream=number)
            try:
                for place, continuation in enumerate(found if put else ()):
                    about = {"prompt": prompt, "continuation": place, "weights": weights}
                    put({**about, **as_record(continuation)})
            finally:  # What cannot be written is shown at least.
                if not to_standard_output:
                    print("\n" + as_text_block(found, shade, in_colour, draws > 1), flush=True)


def _refuse(flag: str, value: Any, accepted: str) -> NoReturn:
    raise InputError(f"--{flag}={terminal.shortened(str(value))} is not accepted: it must be {accepted}")


def _check(
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
    if color not in terminal.COLOUR_CHOICES:
        _refuse("color", color, f"one of {', '.join(terminal.COLOUR_CHOICES)}")
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


def _check_vocabulary(
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


def _writer(
    output: str | os.PathLike[str] | None, stack: ExitStack
) -> Callable[[dict[str, Any]], None] | None:
    """What writes a line of JSON at once; None where there is no output."""
    if output is None:
        return None
    path = Path("standard output" if output == STANDARD else output)
    if output == STANDARD:
        file = sys.stdout
    else:
        with explained(path, "write"):
            file = open(path, "w", encoding="utf-8")

        @stack.callback
        def close() -> None:
            with explained(path, "write"):  # What could not be written is tried once more.
                file.close()

    def put(record: dict[str, Any]) -> None:
        line = json.dumps(to_jsonable(record), allow_nan=False) + "\n"
        if file is sys.stdout:
            print(line, end="", flush=True)
            return
        with explained(path, "write"):
            file.write(line)
            file.flush()

    return put


def _prompts(prompts: Iterable[str] | None) -> Iterator[str]:
    """The prompts, the lines of standard input where `STANDARD` stands for them."""
    for prompt in [""] if prompts is None else prompts:
        if prompt == STANDARD:
            yield from _standard_input()
        else:
            yield _as_utf8(prompt)


def _standard_input() -> Iterator[str]:
    """Its lines, as they come."""
    if sys.stdin is None:
        raise InputError("--prompt=- reads standard input, which is closed; accepted: text, a prompt a line")
    lines = getattr(sys.stdin, "buffer", None) or (line.encode("utf-8") for line in sys.stdin)
    with explained("standard input", "read"):
        for _, line in decoded(lines, "standard input"):
            yield line


def _as_utf8(prompt: str) -> str:
    """A prompt whose bytes another encoding than UTF-8 was taken for, that of an old terminal, say."""
    try:
        return os.fsencode(prompt).decode("utf-8") if not prompt.isascii() else prompt
    except UnicodeEncodeError:  # It came from elsewhere than the command line.
        return prompt
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise InputError(
            f"--prompt={prompt!a} is not UTF-8 text (byte 0x{byte:02x}); accepted: UTF-8"
        ) from None


def _weights(is_bayesian: bool, samples: int, draws: int) -> str:
    """Which weights words come from and are scored by."""
    if not is_bayesian:
        return "one set of weights"
    if samples:
        return f"average over {samples} samples"
    return (
        f"a draw for each continuation, scored by the average over all {draws}" if draws else "posterior mean"
    )
