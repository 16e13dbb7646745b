"""A forecaster as a SavedModel: quantiles and paths of series that are given as they are.

Shapes: B series of T values, C steps of context and H of the horizon, M the largest lag, K covariates, J
categories, P paths, Q quantiles.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import Any

import tensorflow as tf

from tfp_bayesrnn import BayesianModel, noise
from tfp_bayesrnn.export.saved_model import ExportedPosterior, require
from tfp_bayesrnn.noise import Stream
from tfp_bayesrnn.posterior.posterior import Draw
from zoo.data.calendar import FREQUENCIES
from zoo.data.vocabulary import Vocabulary
from zoo.forecasting.configuration import ForecastingConfig
from zoo.forecasting.paths import MARGIN, walked
from zoo.forecasting.windows import Layout
from zoo.signatures.words import Words


class ForecastExport:
    """The contents of a forecaster's SavedModel, and its signatures.

    Attributes:
      module: the module that holds the weights and the vocabulary of categories.
    """

    def __init__(
        self,
        config: ForecastingConfig,
        model: BayesianModel,
        exported: ExportedPosterior,
        vocabulary: Vocabulary,
        directory: str | os.PathLike[str],
    ):
        """Builds the tables.

        Args:
          config: the run's configuration.
          model: the run's model.
          exported: the weights of its network.
          vocabulary: the words of its categories.
          directory: the directory that `Words` takes.
        """
        self._config, self._layout, self._likelihood = config, Layout.of(config), model.likelihood
        self._posterior = exported
        self.words = Words(vocabulary, directory)
        self.module = tf.Module(name="forecasting")
        self.module.parts, self.module.words = exported.parts, self.words
        network: Any = model.network
        self._network = network
        template = network.get_initial_state(1)
        arguments = network.get_config()
        count, known = 2 * len(self._layout.lags), arguments["known"]

        def run(
            lags: tf.Tensor, known: tf.Tensor, categories: tf.Tensor, scale: tf.Tensor, *parts: tf.Tensor
        ) -> tuple[tf.Tensor, list[tf.Tensor]]:
            inputs = {"lags": lags, "known": known, "categories": categories, "scale": scale}
            outputs, state = network.run(inputs, tf.nest.pack_sequence_as(template, parts))
            return outputs, tf.nest.flatten(state)

        signature = [
            tf.TensorSpec([None, None, count], tf.float32),
            tf.TensorSpec([None, None, known], tf.float32),
            tf.TensorSpec([None, arguments["categories"]], tf.int32),
            tf.TensorSpec([None, 2], tf.float32),
            *(tf.TensorSpec([None, *part.shape[1:]], part.dtype) for part in tf.nest.flatten(template)),
        ]
        self._run = exported.function(run, signature)

    def signatures(self) -> dict[str, Callable]:
        """The `tf.function` of each signature by name; the Monte Carlo form too where there are scales."""
        data, layout = self._config.data, self._layout
        inputs = [
            tf.TensorSpec([None, None], tf.float32, "values"),
            tf.TensorSpec([None, layout.window, len(data.covariate_names)], tf.float32, "covariates"),
            tf.TensorSpec([None, data.category_count], tf.string, "categories"),
            tf.TensorSpec([None], tf.int64, "time"),
            tf.TensorSpec([None], tf.float32, "quantiles"),
            tf.TensorSpec([], tf.int32, "num_paths"),
            tf.TensorSpec([], tf.int32, "seed"),
        ]
        made = {"forecast": tf.function(self.forecast, input_signature=inputs, autograph=False)}
        if self._posterior.has_scales:
            inputs.append(tf.TensorSpec([], tf.int32, "num_samples"))
            made["forecast_mc"] = tf.function(self.forecast_mc, input_signature=inputs, autograph=False)
            scalars = [inputs[-1], inputs[-2]]
            made["load_draws"] = tf.function(self.load_draws, input_signature=scalars, autograph=False)
        return {**made, "serving_default": made["forecast"]}

    def forecast(
        self,
        values: tf.Tensor,
        covariates: tf.Tensor,
        categories: tf.Tensor,
        time: tf.Tensor,
        quantiles: tf.Tensor,
        num_paths: tf.Tensor,
        seed: tf.Tensor,
    ) -> dict[str, tf.Tensor]:
        """Quantiles [B, H, Q], the mean [B, H] and sample paths [B, H, P] of what follows the values [B, T].

        Values are all there are of a series, NaN where one is missing, series that begin later with NaN at
        their start. covariates [B, C + H, K] are those of the last C values and of the horizon, categories
        [B, J] the words of each category, and time [B] is that of the first step that is forecast: in months
        or in minutes since 1970 began, by the length of a step; where steps are only counted it is not
        looked at. What the model does not use has a size of 0. Weights are the posterior mean.
        """
        inputs = (values, covariates, categories, time)
        return self._forecast(inputs, quantiles, num_paths, seed, None)

    def forecast_mc(
        self,
        values: tf.Tensor,
        covariates: tf.Tensor,
        categories: tf.Tensor,
        time: tf.Tensor,
        quantiles: tf.Tensor,
        num_paths: tf.Tensor,
        seed: tf.Tensor,
        num_samples: tf.Tensor,
    ) -> dict[str, tf.Tensor]:
        """As `forecast`, the paths shared out over S draws of the weights, each under one of them."""
        with tf.control_dependencies(
            [
                require(
                    num_samples >= 1, "num_samples must be at least 1. Received: num_samples =", num_samples
                )
            ]
        ):
            num_samples = tf.minimum(num_samples, num_paths)
        return self._forecast((values, covariates, categories, time), quantiles, num_paths, seed, num_samples)

    def _forecast(
        self,
        inputs: tuple[tf.Tensor, ...],
        quantiles: tf.Tensor,
        num_paths: tf.Tensor,
        seed: tf.Tensor,
        num_samples: tf.Tensor | None,
    ) -> dict[str, tf.Tensor]:
        checks = [
            require(num_paths >= 1, "num_paths must be at least 1. Received: num_paths =", num_paths),
            require(
                tf.reduce_all((quantiles >= 0.0) & (quantiles <= 1.0)),
                "quantiles must lie between 0 and 1. Received: quantiles =",
                quantiles,
            ),
            require(
                tf.reduce_all(tf.reduce_any(tf.math.is_finite(inputs[0]), axis=1)),
                "every series must have a value. Received: series with values =",
                tf.reduce_any(tf.math.is_finite(inputs[0]), axis=1),
            ),
        ]
        with tf.control_dependencies(checks):
            window = self._window(*inputs)
        root = noise.make_seed(seed)

        def of_draw(number: int | tf.Tensor, draw: Draw, copies: tf.Tensor) -> tf.Tensor:
            return self._paths(draw, noise.derive(root, Stream.FORECAST_NOISE, 0, number), window, copies)

        if num_samples is None:
            paths = of_draw(0, self._posterior.mean(), num_paths)
        else:
            copies, draws = -(-num_paths // num_samples), self._forecasting(seed)
            written = tf.TensorArray(
                tf.float32, num_samples, element_shape=[None, None, self._layout.horizon]
            )
            _, written = tf.while_loop(
                lambda number, _: number < num_samples,
                lambda number, written: (
                    number + 1,
                    written.write(
                        number, of_draw(number, self._posterior.sample(noise.derive(draws, number)), copies)
                    ),
                ),
                (tf.constant(0), written),
                parallel_iterations=1,
            )
            paths = written.concat()
        paths = tf.transpose(self._in_units(paths, window), [1, 2, 0])
        return {
            "quantiles": _quantiles(paths, quantiles),
            "mean": tf.reduce_mean(paths, axis=2),
            "paths": paths,
        }

    def load_draws(self, num_samples: tf.Tensor, seed: tf.Tensor) -> dict[str, tf.Tensor]:
        """Makes S draws of the weights and keeps them for `forecast_mc` of that seed.

        Its calls with at most S samples then give the same answers as without, sooner. The draws take S times
        the memory of the weights in float32; 0 frees it.
        """
        return self._posterior.keep_draws(num_samples, self._forecasting(seed))

    @staticmethod
    def _forecasting(seed: tf.Tensor) -> tf.Tensor:
        return noise.derive(noise.make_seed(seed), Stream.EVALUATION_DRAWS)

    def _paths(
        self, draw: Draw, seed: tf.Tensor, window: dict[str, tf.Tensor], copies: tf.Tensor
    ) -> tf.Tensor:
        """Paths under a draw, [copies, B, H]."""
        template = self._network.get_initial_state(1)

        def run(inputs: dict[str, tf.Tensor], state: Any) -> tuple[tf.Tensor, Any]:
            arguments = (inputs[name] for name in ("lags", "known", "categories", "scale"))
            outputs, parts = self._run(draw, *arguments, *tf.nest.flatten(state))
            return outputs, tf.nest.pack_sequence_as(template, parts)

        def copied(one: tf.Tensor) -> tf.Tensor:
            return tf.tile(one, [copies, *[1] * (one.shape.rank - 1)])

        context, count = self._layout.context, tf.shape(window["scale"])[0]
        ahead = {name: window[name] for name in ("categories", "scale")}
        before = {**ahead, "lags": window["lags"], "known": window["known"][:, :context]}
        _, state = run(before, self._network.get_initial_state(count))
        rest = (state, ahead, window["known"][:, context:], window["history"])
        state, ahead, known, history = tf.nest.map_structure(copied, rest)
        paths = walked(run, self._likelihood, self._layout, seed, state, ahead, known, history)
        return tf.reshape(paths, [copies, count, self._layout.horizon])

    def _window(
        self, values: tf.Tensor, covariates: tf.Tensor, categories: tf.Tensor, time: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """What `zoo.forecasting.windows` makes of series, from their ends on; lags of the context alone."""
        layout, longest = self._layout, max(self._layout.lags)
        count, steps = tf.unstack(tf.shape(values))
        observed = tf.math.is_finite(values)
        first = tf.argmax(tf.cast(observed, tf.int32), axis=1, output_type=tf.int32)
        values = tf.math.log1p(values) if layout.is_logarithmic else values
        size = _mean(tf.abs(values), observed)
        missing = tf.fill([count, layout.context + longest], math.nan)
        values = tf.concat([missing, values], axis=1)[:, -(layout.context + longest) :]
        values = tf.ensure_shape(values, [None, layout.context + longest])
        location, scale = self._scales(values[:, longest:], size)
        scaled = (values - location[:, tf.newaxis]) / scale[:, tf.newaxis]
        flags = tf.math.is_finite(scaled)
        scaled, flags = tf.where(flags, scaled, 0.0), tf.cast(flags, tf.float32)
        places = [[longest + step - lag for lag in layout.lags] for step in range(layout.context)]
        lags = [tf.gather(one, places, axis=1) for one in (scaled, flags)]
        ages = tf.maximum(steps - first[:, tf.newaxis] + tf.range(-layout.context, layout.horizon), 0)
        age = tf.math.log(1.0 + tf.cast(ages, tf.float32)) / (3.0 * math.log(10.0))
        calendar = self._calendar(time, ages - (steps - first)[:, tf.newaxis])
        return {
            "lags": tf.concat(lags, axis=2),
            "known": tf.concat([*calendar, age[:, :, tf.newaxis], covariates], axis=2),
            "categories": self._ids(categories),
            "scale": tf.stack([location, scale], axis=1),
            "history": tf.stack([scaled[:, -longest:], flags[:, -longest:]], axis=1),
        }

    def _scales(self, context: tf.Tensor, size: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        known = tf.math.is_finite(context)
        is_known = tf.reduce_any(known, axis=1)
        own = tf.where(is_known, _mean(tf.abs(context), known), size)
        whole = tf.where(own > 0.0, own, tf.ones_like(own))
        if self._layout.scaling == "mean_absolute":
            return tf.zeros_like(own), whole
        mean = tf.where(is_known, _mean(context, known), size)
        deviation = tf.sqrt(_mean((context - mean[:, tf.newaxis]) ** 2, known))
        return mean, tf.maximum(deviation, 0.01 * whole)

    def _calendar(self, time: tf.Tensor, steps: tf.Tensor) -> list[tf.Tensor]:
        """Sines and cosines of cycles, [B, W, features], of steps [B, W] from the first that is forecast."""
        kind = FREQUENCIES[self._layout.frequency]
        if not kind.cycles:
            return []
        times = time[:, tf.newaxis] + kind.size * tf.cast(steps, tf.int64)
        columns = []
        for cycle, harmonics in kind.cycles:
            angle = 2.0 * math.pi * tf.cast(_phase(times, cycle, kind.unit == "M"), tf.float64)
            for harmonic in range(1, harmonics + 1):
                columns += [tf.sin(harmonic * angle), tf.cos(harmonic * angle)]
        return [tf.cast(tf.stack(columns, axis=2), tf.float32)]

    def _ids(self, categories: tf.Tensor) -> tf.Tensor:
        data = self._config.data
        names = [*data.category_names, *(["series"] if data.name_as_category else [])]
        if not names:
            return tf.zeros([tf.shape(categories)[0], 0], tf.int32)
        heads = tf.broadcast_to([f"{name}=" for name in names], tf.shape(categories))
        words = tf.strings.join([heads, categories])
        words = tf.strings.regex_replace(words, " ", "%20")
        ids, _ = self.words.encode(tf.strings.reduce_join(words, axis=1, separator=" "))
        return tf.ensure_shape(ids, [None, len(names)])

    def _in_units(self, paths: tf.Tensor, window: dict[str, tf.Tensor]) -> tf.Tensor:
        """Paths [P, B, H] in the units of the series."""
        if self._layout.has_counts:
            return paths
        location, scale = (one[:, tf.newaxis] for one in tf.unstack(window["scale"], axis=1))
        paths = location + scale * paths
        if not self._layout.is_logarithmic:
            return paths
        values, flags = tf.unstack(window["history"], axis=1)
        highest = tf.reduce_max(tf.where(flags > 0.0, location + scale * values, 0.0), axis=1, keepdims=True)
        return tf.math.expm1(tf.clip_by_value(paths, 0.0, highest + MARGIN))


def _mean(values: tf.Tensor, known: tf.Tensor) -> tf.Tensor:
    """The mean of the values [B, T] that are known; 0 where none is."""
    total = tf.reduce_sum(tf.where(known, values, tf.zeros_like(values)), axis=1)
    return total / tf.maximum(tf.reduce_sum(tf.cast(known, values.dtype), axis=1), 1.0)


def _phase(times: tf.Tensor, cycle: str, in_months: bool) -> tf.Tensor:
    """The place of times, int64, in a cycle; see `zoo.data.calendar.phases`. Float64 from 0 to 1."""
    day = 24 * 60
    if in_months:
        return tf.cast(times % 12, tf.float64) / 12.0
    if cycle == "day":
        return tf.cast(times % day, tf.float64) / day
    if cycle == "week":
        return tf.cast((times - 4 * day) % (7 * day), tf.float64) / (7 * day)
    # The year, by the proleptic Gregorian calendar, whose eras of 400 years begin with March.
    days = times // day + 719_468
    of_era = days % 146_097
    year_of_era = (of_era - of_era // 1460 + of_era // 36_524 - of_era // 146_096) // 365
    of_year = of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)  # From the first of March.
    march = year_of_era + 400 * (days // 146_097)
    year = march + tf.cast(of_year >= 306, march.dtype)  # January and February are the next year's.
    leap = tf.cast((year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0)), tf.int64)
    since = tf.where(of_year >= 306, of_year - 306, of_year + 59 + leap)
    minutes = since * day + times % day
    return tf.cast(minutes, tf.float64) / tf.cast((365 + leap) * day, tf.float64)


def _quantiles(paths: tf.Tensor, levels: tf.Tensor) -> tf.Tensor:
    """Quantiles [B, H, Q] of paths [B, H, P], by linear interpolation."""
    ordered = tf.sort(paths, axis=2)
    place = levels * tf.cast(tf.shape(paths)[2] - 1, tf.float32)
    low = tf.cast(tf.floor(place), tf.int32)
    high = tf.minimum(low + 1, tf.shape(paths)[2] - 1)
    share = place - tf.floor(place)
    return tf.gather(ordered, low, axis=2) * (1.0 - share) + tf.gather(ordered, high, axis=2) * share


def export(
    config: ForecastingConfig,
    model: BayesianModel,
    exported: ExportedPosterior,
    vocabulary: Vocabulary,
    directory: str | os.PathLike[str],
) -> tuple[ForecastExport, dict[str, Any]]:
    """Returns what a run's SavedModel holds, and what `signatures.json` says about it, with an example call.

    Args:
      config: the run's configuration, resolved.
      model: the run's model.
      exported: the weights of its network.
      vocabulary: the words of its categories.
      directory: the directory that `Words` takes.
    """
    made, data, layout = (
        ForecastExport(config, model, exported, vocabulary, directory),
        config.data,
        Layout.of(config),
    )
    names = [*data.category_names, *(["series"] if data.name_as_category else [])]
    covariates = f"tf.zeros([1, {layout.window}, {len(data.covariate_names)}])"
    example = (
        f'model.signatures["forecast"](values=tf.random.uniform([1, {2 * layout.window}]), '
        f"covariates={covariates}, categories=tf.fill([1, {len(names)}], ''), "
        "time=tf.constant([0], tf.int64), quantiles=tf.constant([0.05, 0.5, 0.95]), "
        'num_paths=tf.constant(200), seed=tf.constant(0))["quantiles"]'
    )
    return made, {
        "horizon": data.horizon,
        "context": layout.context,
        "frequency": data.frequency,
        "covariates": list(data.covariate_names),
        "categories": names,
        "example": example,
    }
