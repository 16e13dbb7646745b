"""The mode `generate`: continuations of prompts."""

from __future__ import annotations

from absl import flags

from zoo.configuration import checks, limits
from zoo.modes.mode import Flag, Mode, Request
from zoo.terminal.colours import COLOUR_CHOICES


def run(request: Request) -> None:
    """Continues prompts with the best checkpoint of a run.

    Raises:
      flags.Error: a number of samples is given for continuations that have a draw of the weights each.
    """
    from zoo.registry import task_of

    if request.flags.get("draw_per_continuation") and request.overrides.get("evaluate.num_samples"):
        raise flags.Error(
            "--draw_per_continuation makes one draw for each of --continuations: leave out --num_samples"
        )
    task_of(request.run_config).modes[MODE.name](request.run_config, request.run_dir, **request.flags)


MODE = Mode(
    name="generate",
    about="continues prompts, the words shaded by the model's uncertainty",
    run=run,
    writes="the texts as JSON lines, where --output asks for them",
    example="--workdir=runs/demo --prompt='the dog' --num_samples=10",
    flags=(
        Flag(
            name="prompt",
            argument="prompts",
            text="the first words of a text; - for one on each line of stdin; may be repeated",
            default="no words: a sentence begins",
            repeated=True,
        ),
        Flag(
            name="max_words",
            kind=int,
            text="words of a continuation at most",
            default="30",
            least=1,
            most=limits.WORDS,
        ),
        Flag(
            name="continuations",
            kind=int,
            text="continuations of each prompt",
            default="1",
            least=1,
            most=limits.CONTINUATIONS,
        ),
        Flag(
            name="decode",
            text="how words are chosen: sample, greedy or beam",
            default="sample",
            check=checks.choice("sample", "greedy", "beam"),
        ),
        Flag(
            name="temperature",
            kind=float,
            text="temperature of sampling",
            default="1",
            check=checks.POSITIVE,
        ),
        Flag(
            name="top_k",
            kind=int,
            text="sample from the N most probable words only",
            default="all words",
            least=0,
            most=limits.WHOLE,
        ),
        Flag(
            name="top_p",
            kind=float,
            text="sample from the most probable words, of this probability together, only",
            default="all words",
            check=checks.SHARE,
        ),
        Flag(name="beam", kind=int, text="beams of --decode=beam", default="5", least=1, most=limits.BEAMS),
        Flag(
            name="draw_per_continuation",
            kind=bool,
            text="each continuation has weights of its own, one draw",
        ),
        Flag(name="allow_unk", kind=bool, text="<unk> may be generated"),
        Flag(name="end_at_eos", kind=bool, text="a continuation ends with its line"),
        Flag(name="seed", kind=int, text="seed of draws and of sampling", default="the run's"),
        Flag(
            name="color",
            text="uncertainty in colour: auto, always or never",
            default="auto",
            check=checks.choice(*COLOUR_CHOICES),
        ),
        Flag(
            name="output",
            metavar="FILE",
            text="a file for JSON lines, one for each continuation; - for stdout",
            is_path=True,
        ),
    ),
    general=("num_samples", "deterministic"),
    one_device="generation",
    by_task=True,
)
