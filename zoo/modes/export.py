"""The mode `export`: a run as a SavedModel."""

from __future__ import annotations

from zoo.configuration import checks
from zoo.modes.mode import Flag, Mode, Request
from zoo.modes.prune import PRUNE


def run(request: Request) -> None:
    """Exports the best checkpoint of a run."""
    from zoo.export.run_export import export_run

    export_run(request.run_config, request.run_dir, **request.flags)


MODE = Mode(
    name="export",
    about="exports a run as a SavedModel that needs TensorFlow alone",
    run=run,
    writes="the SavedModel, its README.md and signatures.json",
    example="--workdir=runs/demo --prune=0.8 --format=float16",
    flags=(
        Flag(
            name="output",
            metavar="DIR",
            text="the SavedModel's directory",
            default="WORKDIR/export",
            is_path=True,
        ),
        PRUNE,
        Flag(
            name="format",
            text="what weights are stored as: float32 or float16",
            default="float32",
            check=checks.choice("float32", "float16"),
        ),
        Flag(
            name="weights",
            text="mean, or posterior for the scales too, which the signatures with samples need",
            default="posterior where the model has one",
            check=checks.choice("mean", "posterior"),
        ),
    ),
    general=("deterministic",),
    one_device="the export",
)
