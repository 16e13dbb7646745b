"""Forecasts of many series, with intervals."""
