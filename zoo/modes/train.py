"""The mode `train`: trains the model of a preset."""

from __future__ import annotations

from zoo.modes.mode import Configuration, Mode, Request


def run(request: Request) -> None:
    """Trains, or resumes training, and evaluates."""
    from zoo.registry import task_of
    from zoo.runs.commands import train_run

    train_run(
        task_of(request.run_config).experiment,
        request.run_config,
        request.run_dir,
        request.data_dir,
        request.strategy,
    )


MODE = Mode(
    name="train",
    about="trains a model and evaluates it on valid and test; the same command again resumes",
    run=run,
    configuration=Configuration.PRESET,
    writes="config.json, metrics.jsonl, results.json, checkpoints and TensorBoard's files",
    example="--preset=demo_bbb --workdir=runs/demo --config.train.epochs=3",
    general=(
        *("data_dir", "seed", "num_samples", "mixed_precision", "jit_compile"),
        *("strategy", "cpu_devices", "deterministic"),
    ),
)
