"""The mode `uncertainty`: models side by side, by what their uncertainty is worth."""

from __future__ import annotations

from zoo.configuration import checks, limits
from zoo.modes.mode import Configuration, Flag, Mode, Request


def run(request: Request) -> None:
    """Scores the models on the test text and on other text."""
    from zoo.uncertainty.comparison import compare_models

    compare_models(request.run_dir, data_dir=request.data_dir, **request.flags)


MODE = Mode(
    name="uncertainty",
    about="compares models: calibration, entropies on the test text and on other text",
    run=run,
    configuration=Configuration.FLAGS,  # What is compared says for itself what it is.
    writes="uncertainty.json and the directory uncertainty with tables, diagrams, texts and records",
    example="--workdir=runs/comparison --compare=runs/demo --compare=runs/other",
    flags=(
        Flag(
            name="num_samples",
            argument="samples",
            kind=int,
            text="samples of the averages; 0: means only",
            default="10",
            check=checks.SAMPLES,
        ),
        Flag(
            name="seed",
            kind=int,
            text="seed of the draws, and of shuffled and random words",
            default="0",
            check=checks.SEED,
        ),
        Flag(
            name="compare",
            metavar="PATH",
            text="what else to score: workdirs, Keras files, SavedModels, files of probabilities; may be "
            "repeated",
            repeated=True,
        ),
        Flag(
            name="ensemble",
            metavar="PATH",
            text="models that are scored together, as the average of their probabilities; repeated for each",
            repeated=True,
        ),
        Flag(
            name="data",
            metavar="NAME",
            text="the data set to score on",
            default="that of the first workdir",
        ),
        Flag(
            name="texts",
            metavar="FILE",
            text="files of other text, out of distribution; may be repeated",
            repeated=True,
            is_path=True,
        ),
        Flag(
            name="swaps",
            metavar="PERCENTS",
            text="shares of the test text's words that change places, each a text of its own; 0: none",
            default="5,10,20,30,50",
        ),
        Flag(
            name="prompts",
            kind=int,
            text="beginnings of sentences that every model continues; 0: none",
            default="200 where the language is known or there is a --judge, else 0",
            least=0,
            most=limits.COUNT,
        ),
        Flag(
            name="judge",
            metavar="PATH",
            text="a stronger model, by which continuations are judged where the language is not known",
        ),
        Flag(
            name="rows",
            kind=int,
            text="rows that a text is cut into; 1 reads it as one",
            default="1",
            least=1,
            most=limits.ROWS,
        ),
        Flag(
            name="unroll",
            kind=int,
            text="words of a window that is read at once",
            default="that of the first workdir, or 100",
            least=1,
            most=limits.WINDOW,
        ),
        Flag(
            name="words",
            kind=int,
            text="words of each text that are taken; 0: all",
            default="0",
            least=0,
            most=limits.WHOLE,
        ),
        Flag(
            name="window",
            kind=int,
            text="words whose mean uncertainty tells texts apart",
            default="35",
            least=1,
            most=limits.COUNT,
        ),
    ),
    general=("data_dir", "deterministic"),
    one_device="the benchmark",
)
