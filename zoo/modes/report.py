"""The mode `report`: a run as one HTML page."""

from __future__ import annotations

from zoo.modes.mode import Flag, Mode, Request


def run(request: Request) -> None:
    """Writes the page."""
    from zoo.report.workdir_report import write_report

    write_report(request.run_config, request.run_dir, request.data_dir, **request.flags)


MODE = Mode(
    name="report",
    about="shows a run, finished or not, on one HTML page that needs no network",
    run=run,
    writes="the page",
    example="--workdir=runs/demo",
    flags=(
        Flag(
            name="output",
            metavar="FILE",
            text="the page, an HTML file",
            default="WORKDIR/report.html",
            is_path=True,
        ),
    ),
    general=("data_dir", "num_samples", "deterministic"),
    one_device="the report",
)
