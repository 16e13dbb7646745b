"""The command `generate`: continuations of prompts by a trained model, and how sure it is of each word."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from tfp_bayesrnn.errors import InputError
from tfp_bayesrnn.filesystem.paths import local_path
from zoo.configuration import config as configs
from zoo.configuration import methods
from zoo.data.lines import decoded
from zoo.data.vocabulary import UNK
from zoo.filesystem.files import check_output, explained
from zoo.filesystem.json_lines import STANDARD, json_lines
from zoo.filesystem.writable import check_openable
from zoo.language_model.configuration import LanguageModelConfig
from zoo.language_model.continuation_text import as_record, as_text_block, heading
from zoo.language_model.continuations import Continuation, Generator
from zoo.language_model.model import restorable
from zoo.language_model.word_choice import Choice, check, check_vocabulary
from zoo.runs.restored import restored
from zoo.runs.workdir import Workdir
from zoo.terminal import colours


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
      config: the run's configuration; `evaluate.num_samples` is the number of draws of the weights that are
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
      max_words: the largest number of words in a continuation; `<eos>`, the end of a line, is one.
      continuations: the number for each prompt. By beam search the best ones, at most as many as beams.
      draw_per_continuation: see `Generator`.
      allow_unk: whether `<unk>` may be generated.
      end_at_eos: whether a continuation ends with its line.
      seed: the seed of draws and of sampling; None for the run's.
      color: "auto", "always" or "never", as `colours.uses_colours` takes it: words are shaded by their
        mutual information with the weights where there are several draws, else by their entropy.
      output: a file for JSON lines, one for each continuation; "-": standard output, in place of the text.

    Raises:
      InputError: an argument is not accepted, a prompt cannot be read, the workdir holds no model that has
        been trained for an epoch, or the output cannot be written.
    """
    choice = Choice(decode, temperature, top_k, top_p, beam)
    check(config, choice, max_words, continuations, draw_per_continuation, color)
    config = _with_seed(config, seed)
    output = _checked_output(output)
    is_bayesian = config.method in methods.BAYESIAN_METHODS
    model, vocabulary, step = restored(restorable, config, Workdir(workdir, create=False))
    forbidden = () if allow_unk or UNK not in vocabulary else (UNK,)
    check_vocabulary(vocabulary, choice, end_at_eos, forbidden)
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
    weights = _weights(is_bayesian, samples, draws)
    ways = [weights, str(choice), f"seed {config.seed}", *(f"no {word}" for word in forbidden)]
    found = (
        (prompt, generator.generate([_as_read(prompt, config)], continuations, stream=number)[0])
        for number, prompt in enumerate(_prompts(prompts))
    )
    _put_out(found, weights, output, _headline(config, step, ways), _view(draws, color))


def _as_read(prompt: str, config: LanguageModelConfig) -> str:
    """A prompt as the training text was read."""
    return prompt.lower() if config.data.lowercase else prompt


def _with_seed(config: LanguageModelConfig, seed: int | None) -> LanguageModelConfig:
    if seed is None:
        return config
    config = configs.with_overrides(config, {"seed": seed})
    configs.validate(config)
    return config


def _headline(config: LanguageModelConfig, step: int, ways: Sequence[str]) -> str:
    """The line that says which model it is, and in which ways it is used."""
    label = methods.LABELS[config.method]
    return f"{config.preset} ({label}), best checkpoint: step {step}; {', '.join(ways)}"


def _checked_output(output: str | os.PathLike[str] | None) -> str | os.PathLike[str] | None:
    """The output, a path as it is taken; better to know of a wrong one before a model is restored."""
    if output in (None, STANDARD):
        return output
    path = local_path(output, "--output")
    check_output(path)
    check_openable(path)
    return path


class _View(NamedTuple):
    """The way texts are shown."""

    measure: str
    in_colour: bool
    has_draws: bool


def _view(draws: int, color: str) -> _View:
    measure = "mutual information" if draws > 1 else "entropy"
    return _View(measure, colours.uses_colours(color, sys.stdout), draws > 1)


def _put_out(
    texts: Iterable[tuple[str, Sequence[Continuation]]],
    weights: str,
    output: str | os.PathLike[str] | None,
    headline: str,
    view: _View,
) -> None:
    """Writes the continuations of each prompt as soon as they are there, and shows them.

    Args:
      texts: each prompt with its continuations.
      weights: the weights that the words come from, in words.
      output: that of `continue_prompts`; in place of what is shown where it is standard output.
      headline: the text that is shown first.
      view: the way they are shown.
    """
    is_shown = output != STANDARD
    with json_lines(output) as put:
        if is_shown:
            print(headline)
            print(heading(*view), flush=True)
        for prompt, found in texts:
            try:
                for place, continuation in enumerate(found):
                    about = {"prompt": prompt, "continuation": place, "weights": weights}
                    put({**about, **as_record(continuation)})
            finally:  # Shown even if it cannot be written.
                if is_shown:
                    print("\n" + as_text_block(found, *view), flush=True)


def _prompts(prompts: Iterable[str] | None) -> Iterator[str]:
    """The prompts, the lines of standard input where `STANDARD` stands for them."""
    for prompt in [""] if prompts is None else prompts:
        if prompt == STANDARD:
            yield from _standard_input()
        else:
            yield _as_utf8(prompt)


def _standard_input() -> Iterator[str]:
    """The lines of standard input, as they come."""
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
    except UnicodeEncodeError:  # The prompt came from elsewhere than the command line.
        return prompt
    except UnicodeDecodeError as error:
        byte = error.object[error.start]
        raise InputError(
            f"--prompt={prompt!a} is not UTF-8 text (byte 0x{byte:02x}); accepted: UTF-8"
        ) from None


def _weights(is_bayesian: bool, samples: int, draws: int) -> str:
    """The weights that words come from and are scored by, in words."""
    if not is_bayesian:
        return "one set of weights"
    if samples:
        return f"average over {samples} samples"
    return (
        f"a draw for each continuation, scored by the average over all {draws}" if draws else "posterior mean"
    )
