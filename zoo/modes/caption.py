"""The mode `caption`: captions of photos."""

from __future__ import annotations

from zoo.modes.mode import Flag, Mode, Request


def run(request: Request) -> None:
    """Captions photos with the best checkpoint of a run."""
    from zoo.registry import task_of

    task_of(request.run_config).modes[MODE.name](request.run_config, request.run_dir, **request.flags)


MODE = Mode(
    name="caption",
    about="captions photos, the words shaded by the model's uncertainty",
    run=run,
    writes="a contact sheet, and beside it the words and their figures as JSON lines",
    example="--workdir=runs/shapes --images=path/to/photos --num_samples=10",
    flags=(
        Flag(
            name="images",
            metavar="PATH",
            text="files, directories of photos, patterns; with commas between them, or repeated",
            repeated=True,
            required="a file, a directory, a pattern",
        ),
        Flag(
            name="output",
            metavar="FILE",
            text="the contact sheet, a PNG; the JSON lines have its name and end in .jsonl",
            default="WORKDIR/captions.png",
            is_path=True,
        ),
    ),
    general=("num_samples", "deterministic"),
    one_device="captioning",
    by_task=True,
)
