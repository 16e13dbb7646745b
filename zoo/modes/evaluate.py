"""The mode `evaluate`: the final figures of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zoo.modes.mode import Flag, Mode, Request

if TYPE_CHECKING:
    from zoo.runs.experiment import Experiment


def run(request: Request) -> None:
    """Evaluates the best checkpoint on valid and test."""
    from tfp_bayesrnn.errors import InputError
    from zoo.registry import task_of
    from zoo.runs.commands import evaluate_run

    task, others = task_of(request.run_config), request.flags.get("ensemble", ())
    if others and not task.scores_text:
        raise InputError(f"--ensemble is not accepted with a {task.label}: it is for models that score text")

    def experiment(*arguments: Any) -> Experiment:
        from tfp_bayesrnn.filesystem.paths import local_path
        from tfp_bayesrnn.model.evaluation import StreamEvaluator
        from zoo.uncertainty.text_models import text_model

        made = task.experiment(*arguments)
        for path in others:
            found, _ = text_model(str(local_path(path, "--ensemble")), made.data.vocabulary)
            made.members[path] = StreamEvaluator(found.model)
        return made

    evaluate_run(experiment, request.run_config, request.run_dir, request.data_dir, request.strategy)


MODE = Mode(
    name="evaluate",
    about="evaluates the best checkpoint of a run on valid and test",
    run=run,
    writes="results.json",
    example="--workdir=runs/demo --num_samples=10",
    flags=(
        Flag(
            name="ensemble",
            metavar="PATH",
            text="workdirs of models that form an ensemble with this one, for a further row: the average of "
            "their probabilities; repeated for each",
            repeated=True,
        ),
    ),
    general=("data_dir", "num_samples", "jit_compile", "deterministic"),
    one_device="evaluation",
)
