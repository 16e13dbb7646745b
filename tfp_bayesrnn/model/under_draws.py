"""`predict` and `evaluate` of a Bayesian model: under the mean, under a draw, or averaged over many."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfp_bayesrnn import checks, keras_internals, noise
from tfp_bayesrnn.model import minibatches
from tfp_bayesrnn.model import training as steps
from tfp_bayesrnn.model.held_draw import HeldDraw, check
from tfp_bayesrnn.model.sampled_network import SampledNetwork, UnderDraws
from tfp_bayesrnn.objective import outputs as outputs_of
from tfp_bayesrnn.objective.likelihoods import CategoricalLikelihood
from tfp_bayesrnn.posterior import ambient
from tfp_bayesrnn.posterior.posterior import Draw, Posterior
from tfp_bayesrnn.prediction.predictive import Predictive
from tfp_bayesrnn.prediction.scores import PredictiveScores

# Figures of training that mean nothing in an evaluation.
_TRAINING_ONLY = ("free_energy", "kl", "kl_sharpening", "gradient_norm")


def of_evaluation(results: dict) -> dict:
    """Returns the figures by name, without those of training alone."""
    return {name: value for name, value in results.items() if name not in _TRAINING_ONLY}


class DrawsModel(keras_internals.Model):
    """The part of `BayesianModel` that predicts and evaluates; it has a `network` and a `likelihood`."""

    network: keras.Model
    likelihood: Any
    test_function: Any  # Functions that Keras has made to run.
    predict_function: Any

    def __init__(self, **kwargs: Any):
        """Takes the arguments of `keras.Model`."""
        super().__init__(**kwargs)
        self._is_evaluated = False
        self._held_draw: HeldDraw | None = None  # That of the call of `predict` or `evaluate` in progress.
        self._held_draws: dict[bool, HeldDraw] = {}  # Keyed by whether they have masks of dropout.
        self._functions_under_draws: dict[bool, tuple] = {}
        self._sampled_network: SampledNetwork | None = None

    @property
    def posterior(self) -> Posterior:
        """q(w) over all weights of the network."""
        return Posterior.of(self.network)

    def predictive(
        self,
        x: Any,
        num_samples: int = 50,
        seed: int = 0,
        batch_size: int | None = None,
        steps: int | None = None,
    ) -> Any:
        """The predictive distribution: the average of the likelihood over draws of the weights.

        Every draw is made from the seed alone, so it is the same for all of `x` and for any `batch_size`; in
        a network with dropout it has masks, which depend on a row's place in its minibatch. Memory holds the
        network's outputs under every draw.

        Args:
          x: the inputs that `predict` takes.
          num_samples: S, the number of draws. Those of a model without distributions and without dropout of
            this library are all the mean.
          seed: the seed of the draws, which are those of `StreamEvaluator.average` and of an export's
            `serve_mc`.
          batch_size: the number of rows in a minibatch; see `predict`.
          steps: the number of minibatches; see `predict`.

        Returns:
          A `Predictive`; for a network with several outputs one for each, in their structure, and None for an
          output without a likelihood.

        Raises:
          ValueError: if there is fewer than 1 draw, or the inputs go on from minibatch to minibatch.
        """
        batches = self._under_many(x, None, None, num_samples, seed, batch_size, steps)
        outputs = [sampled.outputs for _, sampled in batches]
        joined = keras.tree.map_structure(lambda *each: np.concatenate(each, axis=1), *outputs)
        found = [
            None if likelihood is None else Predictive(one, likelihood, seed)
            for likelihood, one in zip(self._likelihoods_of(joined), keras.tree.flatten(joined), strict=True)
        ]
        return keras.tree.pack_sequence_as(joined, found)

    def predict(
        self,
        x: Any,
        batch_size: int | None = None,
        verbose: str | int = "auto",
        steps: int | None = None,
        callbacks: Any = None,
        draw: Draw | None = None,
        num_samples: int | None = None,
        seed: int = 0,
    ) -> Any:
        """Predicts as `keras.Model.predict` does: the network's outputs, under the posterior mean or a draw.

        With `num_samples` it returns the expected target instead, `predictive(x, num_samples, seed).mean()`:
        of classes probabilities, not logits.

        Args:
          x: the inputs; see `keras.Model.predict`.
          batch_size: the number of rows in a minibatch; see `keras.Model.predict`.
          verbose: how progress is shown; see `keras.Model.predict`.
          steps: the number of minibatches; see `keras.Model.predict`.
          callbacks: the callbacks; see `keras.Model.predict`. None are called with `num_samples`.
          draw: a draw, such as `posterior.sample(seed)`, held for all of `x`; None for the mean. Masks of
            dropout that it has are those of a row's place within its batch.
          num_samples: the number of draws to average over; None for no average.
          seed: the seed of those draws; see `predictive`.

        Raises:
          ValueError: if `draw` is not a draw of this model's weights, or is given together with
            `num_samples`.
        """
        if num_samples is not None:
            _check_one_way(draw, num_samples)
            found = self.predictive(x, num_samples, seed, batch_size, steps)
            return keras.tree.map_structure(lambda one: None if one is None else one.mean(), found)
        with self._under(draw, "predict"):
            return super().predict(x, batch_size, verbose, steps, callbacks)

    def evaluate(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        verbose: str | int = "auto",
        sample_weight: Any = None,
        steps: int | None = None,
        callbacks: Any = None,
        return_dict: bool = False,
        draw: Draw | None = None,
        num_samples: int | None = None,
        seed: int = 0,
        **kwargs: Any,
    ) -> Any:
        """Evaluates as `keras.Model.evaluate` does, under the posterior mean or, as in `predict`, a draw.

        With `num_samples` it evaluates the predictive distribution, the average over so many draws: `nll` is
        its negative log-likelihood in nats per prediction, `loss` the same per row, with the penalties of
        regularisers. Beside them are, of classes, `accuracy` and `ece` (expected calibration error, 15 bins),
        and, of real targets and counts, `crps` (in units of the target) and `coverage_50`, `_80`, `_90` and
        `_95`, the shares of targets within those central intervals; for several outputs each begins with its
        name. Metrics of `compile` see the average: logits or probabilities of the average distribution, as
        the likelihood takes them, or the expected target.

        Args:
          x: the inputs; see `keras.Model.evaluate`.
          y: the targets; see `keras.Model.evaluate`.
          batch_size: the number of rows in a minibatch; see `keras.Model.evaluate`.
          verbose: how progress is shown; see `keras.Model.evaluate`. None is shown with `num_samples`.
          sample_weight: the weights; see `keras.Model.evaluate`.
          steps: the number of minibatches; see `keras.Model.evaluate`.
          callbacks: the callbacks; see `keras.Model.evaluate`. None are called with `num_samples`.
          return_dict: whether to return the figures by name; else as a list in the same order.
          draw: a draw; see `predict`.
          num_samples: the number of draws to average over; None for no average.
          seed: the seed of those draws; see `predictive`.
          **kwargs: further arguments of `keras.Model.evaluate`.

        Raises:
          ValueError: where `predict` raises it, or a target that counts is not one of the likelihood's.
        """
        if num_samples is not None:
            _check_one_way(draw, num_samples)
            batches = self._under_many(x, y, sample_weight, num_samples, seed, batch_size, steps)
            found = self._scores(batches, seed)
            return found if return_dict else list(found.values())
        self._is_evaluated = True
        try:
            with self._under(draw, "evaluate"), checks.explained():
                return super().evaluate(
                    x, y, batch_size, verbose, sample_weight, steps, callbacks, return_dict, **kwargs
                )
        finally:
            self._is_evaluated = False

    def predict_on_batch(self, x: Any) -> Any:
        """Predicts as `keras.Model.predict_on_batch` does, under the posterior mean."""
        ambient.refuse_around("predict_on_batch", "use model.predict(x, draw=draw)")
        return super().predict_on_batch(x)

    def test_on_batch(self, *args: Any, **kwargs: Any) -> Any:
        """Evaluates as `keras.Model.test_on_batch` does, under the posterior mean."""
        ambient.refuse_around("test_on_batch", "use model.evaluate(x, y, draw=draw)")
        with checks.explained():
            return super().test_on_batch(*args, **kwargs)

    def get_metrics_result(self) -> dict[str, Any]:
        """Returns metrics as `keras.Model` does; in `evaluate`, without those of training alone.

        Keras takes the figures of several replicas from here, summed over all rows, only if they are named as
        those that `test_step` returns; else it takes the mean of the replicas' own, whose rows may differ.
        """
        results = super().get_metrics_result()
        return of_evaluation(results) if self._is_evaluated else results

    # Under one draw.

    @contextlib.contextmanager
    def _under(self, draw: Draw | None, function: str) -> Iterator[None]:
        """Within this context `predict` and `evaluate` run functions of their own under the draw."""
        ambient.refuse_around(function, f"give it as an argument, model.{function}(..., draw=draw)")
        if draw is None:
            yield
            return
        draw = check(draw, self.posterior)
        has_masks = draw.seed is not None
        held = self._held_draws.get(has_masks)
        if held is None or list(held.values) != list(draw):
            with self.distribute_strategy.scope():
                held = self._held_draws[has_masks] = HeldDraw(draw)
            self._functions_under_draws.pop(has_masks, None)
        held.assign(draw)
        own = self.test_function, self.predict_function
        self.test_function, self.predict_function = self._functions_under_draws.get(has_masks, (None, None))
        self._held_draw = held
        try:
            yield
            self._functions_under_draws[has_masks] = self.test_function, self.predict_function
        finally:
            self.test_function, self.predict_function = own
            self._held_draw = None

    def draw_of_call(self) -> Draw:
        """The draw that `predict` and `evaluate` run under: the one that they were given, or the mean."""
        return self.posterior.mean() if self._held_draw is None else self._held_draw.read()

    # Under many.

    def _under_many(
        self,
        x: Any,
        y: Any,
        sample_weight: Any,
        num_samples: int,
        seed: int,
        batch_size: int | None,
        steps_taken: int | None,
    ) -> Iterator[tuple[steps.Minibatch, UnderDraws]]:
        """Yields every minibatch, and what the network gives for it under each draw."""
        is_number = isinstance(num_samples, int | np.integer) and not isinstance(num_samples, bool)
        if not is_number or num_samples < 1:
            raise ValueError(
                f"num_samples must be an integer of at least 1. Received: num_samples={num_samples!r}"
            )
        ambient.refuse_around("a pass over many draws", "it makes its own")
        for data in minibatches.of(x, y, sample_weight, batch_size, steps_taken):
            batch = steps.unpack(data)
            if batch.is_first is not None:
                raise ValueError(
                    "An average over draws takes rows by themselves; for a stream, whose rows go on from "
                    "minibatch to minibatch, use tfp_bayesrnn.model.evaluation.StreamEvaluator(model)"
                    ".average(dataset, samples). Received: x with 'is_first'"
                )
            if not self.built:
                self(batch.inputs)
            if self._sampled_network is None:
                self._sampled_network = SampledNetwork(self.network)
            yield batch, self._sampled_network.run(batch.inputs, int(num_samples), seed)

    def _scores(self, batches: Iterator[tuple[steps.Minibatch, UnderDraws]], seed: int) -> dict[str, float]:
        names = getattr(self, "output_names", None)
        root = noise.make_seed(seed)
        found: list[PredictiveScores] = []
        penalties = 0.0  # Summed over rows.
        self.reset_metrics()
        for index, (batch, sampled) in enumerate(batches):
            outputs, masks, penalty = sampled
            matched = outputs_of.match(self.likelihood, batch.targets, outputs, batch.weights, masks, names)
            found = found or [PredictiveScores() for _ in matched]
            for place, (scores, output) in enumerate(zip(found, matched, strict=True)):
                scores.add(output, noise.derive(root, index, place))
            penalties += float(penalty) * matched[0].values.shape[1]
            self._update_compiled(batch, outputs, masks)
        total = sum(scores.total for scores in found)
        results = {
            "loss": (total + penalties) / found[0].rows,
            "nll": total / sum(scores.predictions for scores in found),
        }
        if all(isinstance(output.likelihood, CategoricalLikelihood) for output in matched):
            results["perplexity"] = float(np.exp(results["nll"]))
        paths = self._names_of_outputs(outputs)
        for prefix, scores in zip(paths, found, strict=True):
            results.update({prefix + name: value for name, value in scores.result().items()})
        if self.has_compiled_metrics:
            own = {"loss", "nll", "perplexity", *_TRAINING_ONLY}
            compiled = {k: float(v) for k, v in self.get_metrics_result().items() if k not in own}
            results.update(compiled)
        self.reset_metrics()
        return results

    def _update_compiled(self, batch: steps.Minibatch, outputs: Any, masks: Any) -> None:
        """Has the metrics of `compile` see the average over the draws."""
        if not self.has_compiled_metrics:
            return
        averaged = [
            tf.reduce_mean(one, axis=0) if likelihood is None else likelihood.averaged(one)
            for likelihood, one in zip(
                self._likelihoods_of(outputs), keras.tree.flatten(outputs), strict=True
            )
        ]
        averaged = outputs_of.with_masks(keras.tree.pack_sequence_as(outputs, averaged), masks)
        self.compute_metrics_of(batch.inputs, batch.targets, averaged, batch.weights)

    def compute_metrics_of(self, x: Any, y: Any, predictions: Any, sample_weight: Any) -> Any:
        """Updates the metrics of `compile` by predictions that are what they are to see."""
        raise NotImplementedError

    def _names_of_outputs(self, outputs: Any) -> list[str]:
        """What the scores of every output that has a likelihood begin with; nothing, if there is one."""
        paths = [path for path, _ in keras.tree.flatten_with_path(outputs)]
        if len(paths) == 1:
            return [""]
        has_keys = any(isinstance(part, str) for path in paths for part in path)
        names = getattr(self, "output_names", None)
        own = ["_".join(map(str, path)) for path in paths] if has_keys or names is None else names
        likelihoods = self._likelihoods_of(outputs)
        return [f"{name}_" for name, one in zip(own, likelihoods, strict=True) if one is not None]

    def _likelihoods_of(self, outputs: Any) -> list[Any]:
        """The likelihood of every output, None where it has none."""
        names = getattr(self, "output_names", None)
        return outputs_of.spread("likelihood", self.likelihood, outputs, names, shared=True)


def _check_one_way(draw: Draw | None, num_samples: int) -> None:
    if draw is not None:
        raise ValueError(
            "Give either one draw, or the number of draws to average over. "
            f"Received: draw={draw!r}, num_samples={num_samples}"
        )
