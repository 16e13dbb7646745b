"""The mode `evaluate`: the final figures of a run."""

from __future__ import annotations

from zoo.modes.mode import Mode, Request


def run(request: Request) -> None:
    """Evaluates the best checkpoint on valid and test."""
    from zoo.registry import task_of
    from zoo.runs.commands import evaluate_run

    evaluate_run(
        task_of(request.run_config).experiment,
        request.run_config,
        request.run_dir,
        request.data_dir,
        request.strategy,
    )


MODE = Mode(
    name="evaluate",
    about="evaluates the best checkpoint of a run on valid and test",
    run=run,
    writes="results.json",
    example="--workdir=runs/demo --num_samples=10",
    general=("data_dir", "num_samples", "jit_compile", "deterministic"),
    one_device="evaluation",
)
