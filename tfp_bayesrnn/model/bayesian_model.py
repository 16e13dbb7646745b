"""`BayesianModel`: a network, the posterior over its weights, and the objective they are trained by."""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from tfp_bayesrnn import checks, noise, replicas
from tfp_bayesrnn.export import network as exported_network
from tfp_bayesrnn.export.saved_model import ExportedPosterior
from tfp_bayesrnn.model import antithetic as halves
from tfp_bayesrnn.model import arguments, compilation
from tfp_bayesrnn.model import training as steps
from tfp_bayesrnn.model.trainer import BayesianTrainer
from tfp_bayesrnn.model.training import Minibatch
from tfp_bayesrnn.model.under_draws import of_evaluation
from tfp_bayesrnn.objective import activations, compiled_metrics, likelihoods
from tfp_bayesrnn.objective import outputs as outputs_of
from tfp_bayesrnn.objective.free_energy import FreeEnergy
from tfp_bayesrnn.objective.metrics import Perplexity
from tfp_bayesrnn.optimization import optimizers
from tfp_bayesrnn.posterior.kl_weights import KLWeight, KLWeighted
from tfp_bayesrnn.posterior.sharpening import PosteriorSharpening


@keras.saving.register_keras_serializable("tfp_bayesrnn")
class BayesianModel(KLWeighted, BayesianTrainer):
    """Trains a network of variational layers by the free energy (Fortunato et al., 2017, eqs. 4 and 5).

        free energy = (NLL summed over time, averaged over the minibatch) + kl_weight * KL / training_rows

    or, with `sharpening`, by that of the sharpened posterior (eqs. 8 and 9). What is called `loss` is the
    part that the data have in it, in training as in evaluation: see `compile`. The model owns this reduction:
    `compile` takes no `loss`. Every minibatch is run under one draw of all weights. `predict` and
    `evaluate` use the posterior mean, or a draw that they are given, and a plain call the mean.

    What is frozen (`trainable=False`, as in Keras) does not move. It is drawn all the same, and its KL
    counts. That needs no second `compile`, but an optimizer does not know what was frozen when it was built.

    RNN state is carried from minibatch to minibatch where the data say so: if `x` is a dictionary with a key
    "is_first", bool [B], rows go on from the state they ended with unless their `is_first` is true. Training,
    evaluation and prediction carry states of their own.

    >>> model = BayesianModel(
    ...     keras.Sequential([
    ...         VariationalEmbedding(100, 8), VariationalLSTM(8, return_sequences=True), VariationalDense(100)
    ...     ])
    ... )
    >>> model.compile()
    >>> history = model.fit(tokens[:, :-1], tokens[:, 1:], batch_size=16)
    """

    _kl_weight: KLWeight  # Never None.

    def __init__(
        self,
        network: keras.Model,
        training_rows: float | None = None,
        likelihood: Any = "categorical",
        kl_weight: float | keras.Variable | tf.Variable = 1.0,
        kl_warmup_steps: int | str = "auto",
        sharpening: PosteriorSharpening | None = None,
        seed: int = 0,
        antithetic: bool = False,
        **kwargs: Any,
    ):
        """Builds the model.

        Args:
          network: a Keras model of layers that own `VariationalWeight`s, and any others.
          training_rows: the number of rows in one pass over the training data, so that every pass counts the
            KL once: batch * windows for a stream cut into windows, else the number of examples or sequences.
            None: `fit` counts those of arrays, of a `PyDataset` and of a dataset of known cardinality, anew
            in each call.
          likelihood: the distribution of targets, given outputs: "categorical" (integer targets, logits),
            "bernoulli", "normal", "student_t", "poisson", "negative_binomial", "quantile", a `Likelihood`
            such as `NormalLikelihood(scale)` or `DistributionLikelihood(function)`, or a function (targets,
            outputs) -> negative log-likelihood in nats, one number for each target. For several outputs, one
            for all of them, or a structure of them like that of the outputs (for a functional network also a
            dictionary by their names), with None for an output without targets.
          kl_weight: the weight of the KL: 1 for the variational bound. Less is a tempered posterior: call it
            so. It is a variable, which a callback can assign (`model.kl_weight = 0.3`); a given variable is
            used itself.
          kl_warmup_steps: the number of steps over which the KL's weight rises linearly from 0 to
            `kl_weight`; "auto" for a third of `training_rows`, but 300 at least and 1,000 at most. 0 for the
            whole KL from the first step, which few data may not stand.
          sharpening: a `PosteriorSharpening`, to train by the free energy of the sharpened posterior.
          seed: the seed of all draws in training; each draw is a function of it, the step and the replica.
          antithetic: whether the second half of each minibatch runs under the opposite noise of the first.
          **kwargs: further arguments of `keras.Model`.

        Raises:
          ValueError: if an argument is of another kind than is said here, a number is out of range, another
            model has the `sharpening`, the likelihood is a loss of Keras, or the network ends in an
            activation that the likelihood applies itself.
        """
        arguments.check_model(network, training_rows, kl_warmup_steps, sharpening, seed)
        super().__init__(**kwargs)
        self.network = network
        if not network.trainable:  # A Sequential does not pass on what its constructor was told.
            for layer in network.layers:
                layer.trainable = False
        self.training_rows = training_rows
        self.likelihood = likelihoods.get(likelihood)
        activations.check(network, self.likelihood)
        self.kl_weight = kl_weight
        self.kl_warmup_steps = kl_warmup_steps
        self.sharpening = sharpening
        self.seed = seed
        self.antithetic = antithetic
        self.nll_tracker = keras.metrics.Mean(name="nll")
        self.kl_tracker = keras.metrics.Mean(name="kl")
        self.free_energy_tracker = keras.metrics.Mean(name="free_energy")
        self.kl_sharpening_tracker = keras.metrics.Mean(name="kl_sharpening") if sharpening else None
        self.norm_tracker = keras.metrics.Mean(name="gradient_norm")
        kinds = [one for one in keras.tree.flatten(self.likelihood) if one is not None]
        is_categorical = all(isinstance(one, likelihoods.CategoricalLikelihood) for one in kinds)
        self.perplexity_tracker = Perplexity() if is_categorical else None

    def _set_kl_weight(self, value: float | keras.Variable | tf.Variable | None) -> None:
        if value is None:
            raise ValueError("kl_weight must be a number or a variable. Received: kl_weight=None")
        super()._set_kl_weight(value)

    # The network and its posterior.

    @property
    def trained_variables(self) -> list[keras.Variable]:
        """Every variable that training moves: the trainable ones, and those of the sharpening."""
        return [*self.trainable_variables, *(self.sharpening.learned if self.sharpening else [])]

    def build(self, input_shape: Any = None) -> None:
        """Builds the network."""
        if not self.network.built:
            self.network.build(steps.split_inputs(input_shape)[0])
        if self.sharpening and not self.sharpening.built:
            self.sharpening.make_variables(self.posterior)

    def call(self, inputs: Any, training: bool = False) -> Any:
        """Returns the network's outputs, from an RNN state of zeros, under the mean; see `Draw.run`."""
        inputs, _ = steps.split_inputs(inputs)
        return self.network(inputs, training=training)

    @property
    def output_names(self) -> list[str]:
        """The output names of a functional network, by which `compile` takes metrics of several outputs."""
        return self.network.output_names

    @property
    def objective(self) -> steps.Objective:
        """The objective as a value: all that a step needs to know of the model."""
        # Not the network, whose products XLA would slow down: this part is float32.
        is_auto = self.jit_compile_request == "auto" and not self.run_eagerly
        return steps.Objective(
            network=self.network,
            posterior=self.posterior,
            likelihood=self.likelihood,
            training_rows=self.counted_rows.read(),
            variables=self.trainable_variables,
            sharpening=self.sharpening,
            output_names=getattr(self, "output_names", None),
            compiles_likelihood=is_auto and compilation.is_faster_without(self),
        )

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> dict[str, Any]:
        """Computes metrics; targets and weights are those that `fit` takes, of all outputs or of each.

        They see the network's outputs, or the expected target where outputs are parameters of a distribution.
        """
        names = getattr(self, "output_names", None)
        seen = compiled_metrics.predictions(self.likelihood, y_pred, names)
        return self.compute_metrics_of(x, y, seen, sample_weight)

    def compute_metrics_of(self, x: Any, y: Any, predictions: Any, sample_weight: Any) -> dict[str, Any]:
        """Computes metrics of what they are to see."""
        names = getattr(self, "output_names", None)
        found = compiled_metrics.matched(self.likelihood, y, predictions, sample_weight, names)
        return super().compute_metrics(x, *found)

    # Training.

    def training_state(self) -> dict[str, Any]:
        """All that training changes, by name, as `Checkpoints` takes it; the model must be built for it.

        It is more than a saved model holds: the metrics so far and the RNN state that training goes on from.
        """
        strategy = self.distribute_strategy
        metrics = [variable.value for variable in self.metrics_variables]
        state = {
            "model": self,
            "optimizer": self.optimizer,
            "kl_weight": self.kl_weight,
            "metrics": replicas.ReplicaVariables(strategy, metrics, rows=False),
        }
        if self._carried_train is not None:
            carried = self._carried_train.variables_flat
            state["state"] = replicas.ReplicaVariables(strategy, carried, rows=True)
        if self.sharpening:
            state["sharpening_optimizer"] = self.sharpening.optimizer
        return state

    def step_seed(self) -> tf.Tensor:
        """The seed of this step's draw, int32 [2]: a function of (run seed, step, replica)."""
        return noise.derive(
            noise.make_seed(self.seed), optimizers.steps_taken(self.optimizer), replicas.index()
        )

    def step_kl_weight(self) -> tf.Tensor:
        """The KL's weight at this step."""
        steps: Any = self.kl_warmup_steps
        if steps == "auto":
            steps = self.counted_rows.warmup_steps()
        elif not steps:
            return self._kl_weight.read()
        step = tf.cast(optimizers.steps_taken(self.optimizer), tf.float32)
        return self._kl_weight.read() * tf.minimum(1.0, step / steps)

    def _free_energy_gradients(
        self, batch: Minibatch, state: Any, seed: tf.Tensor, kl_weight: tf.Tensor, share: Any, loss_scale: Any
    ) -> Any:
        with_outputs = self.has_compiled_metrics
        gradients = (halves if self.antithetic else steps).free_energy_gradients
        return gradients(self.objective, batch, state, seed, kl_weight, share, with_outputs, loss_scale)

    def update(self, data: Any, equal_rows: bool = False) -> dict[str, tf.Tensor]:
        """Draws, differentiates, sums over replicas, clips, updates: the one step of `fit` and of `Loop`.

        It is called in each replica, with the replica's own rows.

        Args:
          data: the replica's rows, as `train_step` takes them.
          equal_rows: whether all replicas have as many rows, so that they need not be counted.

        Returns:
          The results of the whole minibatch, float32 scalars: `loss`, `free_energy`, `nll` and
          `kl_sharpening` (nats per prediction), `kl` (nats), `gradient_norm`, before clipping, and the step's
          `learning_rate`.
        """
        batch = self.batch_of(data)
        if self.compiled_step is None:
            arguments.check_owns_objective(self)
            function = checks.collecting(self._free_energy_gradients)
            self.is_step_compiled = self.use_jit()
            compiled = tf.function(function, jit_compile=True, autograph=False)
            self.compiled_step = compiled if self.is_step_compiled else function
        optimizers.build(self.optimizer, self.trainable_variables)
        carried = self.carried("train", batch)
        state = carried.read() if carried else None
        share = replicas.share(tf.nest.flatten(batch.inputs)[0], equal_rows)
        loss_scale = self.optimizer.scale_loss(1.0)
        given = (batch, state, self.step_seed(), self.step_kl_weight(), share, loss_scale)
        step, found = self.compiled_step(*given)
        step = checks.enforce(found, step)
        if carried:
            carried.write(step.state)
        step = steps.over_replicas(step, share)
        rate = optimizers.learning_rate(self.optimizer)
        norm = steps.apply_gradients(self.objective, self.optimizer, self.clip_norm, step)
        self.kl_tracker.update_state(step.energy.kl)
        self.norm_tracker.update_state(norm)
        self.free_energy_tracker.update_state(step.energy.loss, sample_weight=step.energy.nll.rows)
        figures = self._track(batch, step.energy, outputs_of.with_masks(step.outputs, step.masks))
        figures |= {"free_energy": step.energy.loss, "kl": step.energy.kl}
        return {**figures, "gradient_norm": norm, "learning_rate": rate}

    def test_step(self, data: Any) -> dict[str, Any]:
        """Evaluates under the mean or a draw: there is no KL, which is one of the training data."""
        batch = self.batch_of(data)
        carried = self.carried("test", batch)
        state = carried.read() if carried else None
        forward = steps.run_under(self.draw_of_call(), self.objective, batch, state, training=False)
        if carried:
            carried.write(forward.state)
        nll = forward.nll
        loss, none = tf.add_n([nll.per_row, *steps.penalties_of(self.network)]), tf.zeros([])
        energy = FreeEnergy(loss, nll, kl=none, kl_sharpening=none, of_data=loss)
        self._track(batch, energy, forward.outputs)
        return of_evaluation(self.get_metrics_result())

    def predict_step(self, data: Any) -> Any:
        """Returns the network's outputs under the posterior mean or a draw, from the state carried so far."""
        batch = self.batch_of(data)
        carried = self.carried("predict", batch)
        state = carried.read() if carried else None
        outputs, state = steps.outputs_under(self.draw_of_call(), self.network, batch, state, training=False)
        if carried:
            carried.write(state)
        return outputs

    def _track(self, batch: Minibatch, energy: FreeEnergy, outputs: Any) -> dict[str, tf.Tensor]:
        """Updates the metrics; returns the minibatch's own figures."""
        nll = energy.nll
        self.loss_tracker.update_state(energy.of_data, sample_weight=nll.rows)
        per_prediction = tf.math.divide_no_nan(nll.total, nll.predictions)
        self.nll_tracker.update_state(per_prediction, sample_weight=nll.predictions)
        kl_sharpening = tf.math.divide_no_nan(energy.kl_sharpening, nll.predictions)
        if self.kl_sharpening_tracker is not None:
            self.kl_sharpening_tracker.update_state(kl_sharpening, sample_weight=nll.predictions)
        if self.perplexity_tracker is not None:
            # With sharpening it is the bound, which pays for the targets that theta has seen.
            self.perplexity_tracker.update_state(
                per_prediction + kl_sharpening, sample_weight=nll.predictions
            )
        if outputs is not None:
            self.compute_metrics(batch.inputs, batch.targets, outputs, batch.weights)
        return {"loss": energy.of_data, "nll": per_prediction, "kl_sharpening": kl_sharpening}

    # Saving.

    def export(
        self,
        filepath: Any,
        format: str = "tf_saved_model",
        verbose: bool | None = None,
        input_signature: Any = None,
        weights: str | None = None,
        weight_format: str = "float32",
        prune: float = 0.0,
        **kwargs: Any,
    ) -> ExportedPosterior | None:
        """Writes a TensorFlow SavedModel that needs TensorFlow alone to run; other formats as Keras does.

        Its signatures are `serve` (and the same as `serving_default`), the network's outputs under the
        posterior mean, and, where the scales are exported, `serve_mc`, which takes `num_samples` and `seed`
        too, int32 scalars, and averages over that many draws, made from the seed. For a categorical or
        Bernoulli likelihood `serve_mc` returns the average `probabilities` [..., V] (V = 2 for Bernoulli),
        their `entropy` [...] and the `mutual_information` of class and weights [...], in nats; for any other,
        `outputs`, the expected target, `outputs_variance`, the variance of a target, its noise included, and
        `outputs_epistemic_variance`, that of the draws' means: the figures of `predictive`. For a function
        of the user's own they are mean and variance of the network's outputs over the draws. A call with
        fewer than 1 sample ends with an error.

        A single input is called `inputs`, several by the keys of their dictionary or the names of their
        `keras.Input`s. Several outputs are called by the keys of their dictionary, or `outputs_0` and so on;
        the names above then begin with that of the output: `a_probabilities`, or `a` and `a_variance`.

        Args:
          filepath: the SavedModel's directory. A SavedModel that is there is replaced once the new one is
            complete.
          format: the format; any other than "tf_saved_model" is left to `keras.Model.export`, with the
            posterior mean.
          verbose: the argument of `keras.Model.export` for other formats; a SavedModel is written in silence.
          input_signature: a `tf.TensorSpec`, or a structure of them as the network takes its inputs; None for
            those that a `keras.Sequential` or functional network was built with.
          weights: "mean", or "posterior" for the scales too; None for the latter where any weight has a
            distribution.
          weight_format: the stored type of weights, "float32" or "float16"; zeros are left out where that
            saves room.
          prune: the fraction of the weights to leave out, those of the lowest |mu| / sigma (without
            distributions those of the lowest magnitude).
          **kwargs: further arguments of `keras.Model.export`, for other formats.

        Returns:
          The exported weights; None for another format.

        Raises:
          InputError: if there are no scales to export, there is something else than a SavedModel at the path,
            or it cannot be written.
          ValueError: if another argument is none of those above, the model is not built, inputs are named
            `self` or as `serve_mc` names its own, or the network's calls change its variables.
        """
        if self.network.built and not self.built:
            self.build()
        if not self.built:
            raise ValueError(f"The model must be built before it is exported. Received: model={self.name!r}")
        if format != "tf_saved_model":
            super().export(filepath, format, verbose=verbose, input_signature=input_signature, **kwargs)
            return None
        return exported_network.export_network(
            self.network, self.likelihood, filepath, weights, weight_format, prune, input_signature
        )

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "network": keras.saving.serialize_keras_object(self.network),
            "training_rows": self.counted_rows.given,
            "likelihood": likelihoods.serialize(self.likelihood),
            "kl_weight": self._kl_weight.number(),
            "kl_warmup_steps": self.kl_warmup_steps,
            "sharpening": keras.saving.serialize_keras_object(self.sharpening),
            "seed": self.seed,
            "antithetic": self.antithetic,
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> BayesianModel:
        """The model whose `get_config` gave `config`."""
        config = dict(config)
        for name in ("network", "sharpening"):
            config[name] = keras.saving.deserialize_keras_object(config.get(name))
        return cls(**config)
