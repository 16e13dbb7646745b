"""The task of forecasting many series, with intervals."""

from __future__ import annotations

from zoo.forecasting.configuration import ForecastingConfig
from zoo.forecasting.presets import PRESETS
from zoo.later import later
from zoo.task import Task


def _size(config: ForecastingConfig) -> str:
    model = config.model
    return f"{model.layers}x{model.units}" + (f" {model.cell}" if model.cell != "lstm" else "")


TASK = Task(
    name="forecasting",
    label="forecaster",
    about="forecasts of many series, with intervals",
    config=ForecastingConfig,
    presets=PRESETS,
    size=_size,
    load_data=later("zoo.forecasting.model", "load_data"),
    model_for=later("zoo.forecasting.model", "model_for"),
    restorable=later("zoo.forecasting.model", "restorable"),
    experiment=later("zoo.forecasting.experiment", "ForecastingExperiment"),
    export=later("zoo.forecasting.export", "export"),
    report_section=later("zoo.forecasting.report", "fans"),
    report_tables=later("zoo.forecasting.report", "score_tables"),
    modes={"forecast": later("zoo.forecasting.forecast", "forecast_series")},
)
