"""The mode `forecast`: forecasts of series, as numbers and as fan charts."""

from __future__ import annotations

from zoo.configuration import limits
from zoo.modes.mode import Flag, Mode, Request


def run(request: Request) -> None:
    """Forecasts series with the best checkpoint of a run."""
    from zoo.registry import task_of

    make = task_of(request.run_config).modes[MODE.name]
    make(request.run_config, request.run_dir, request.data_dir, **request.flags)


MODE = Mode(
    name="forecast",
    about="forecasts series from their ends on, with intervals, as numbers and as fan charts",
    run=run,
    writes="a CSV file and a chart",
    example="--workdir=runs/forecast --num_samples=20",
    flags=(
        Flag(
            name="output",
            metavar="FILE",
            text="the forecasts, a CSV file; - for stdout",
            default="WORKDIR/forecast.csv",
            is_path=True,
        ),
        Flag(
            name="chart",
            metavar="FILE",
            text="the fan charts, an SVG or a PNG file",
            default="WORKDIR/forecast.svg",
            is_path=True,
        ),
        Flag(
            name="series",
            argument="names",
            metavar="NAME",
            text="a series to forecast; may be repeated",
            default="all; the chart has the first 12",
            repeated=True,
        ),
        Flag(
            name="quantile",
            argument="quantiles",
            metavar="X",
            text="a quantile of the CSV file, between 0 and 1; may be repeated",
            default="0.025 0.05 0.1 0.25 0.5 0.75 0.9 0.95 0.975",
            repeated=True,
        ),
        Flag(name="samples", kind=bool, text="the CSV file has the sample paths instead of quantiles"),
        Flag(
            name="back",
            kind=int,
            text="steps before its end that a series is forecast from: what came is drawn too",
            default="0",
            least=0,
            most=limits.WINDOW,
        ),
    ),
    general=("data_dir", "num_samples", "deterministic"),
    one_device="forecasting",
    by_task=True,
)
