"""The methods of `keras.Model`, `compile` and `fit` among them, that run a step of the model's own."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from tfp_bayesrnn import checks, replicas, workers
from tfp_bayesrnn.model import arguments, compilation, fit_watch
from tfp_bayesrnn.model import training as steps
from tfp_bayesrnn.model.carried import StateCarrier, in_order
from tfp_bayesrnn.model.fit_watch import FitWatch
from tfp_bayesrnn.model.training_rows import TrainingRows
from tfp_bayesrnn.model.under_draws import DrawsModel
from tfp_bayesrnn.objective import class_weights, compiled_metrics
from tfp_bayesrnn.objective.class_weights import ClassWeights
from tfp_bayesrnn.optimization import optimizers
from tfp_bayesrnn.posterior import ambient

_DRAWS_ITSELF = "training draws the weights of every step by itself, call it outside"


class BayesianTrainer(StateCarrier, DrawsModel):
    """The part of `BayesianModel` that adapts `keras.Model` and knows nothing of the objective.

    The model has a `network` and a `likelihood`, and its step is `update`.
    """

    def __init__(self, **kwargs: Any):
        """Takes the arguments of `keras.Model`."""
        super().__init__(**kwargs)
        self.clip_norm: float | None = None
        self.auto_scale_loss = False
        self.jit_compile_request: bool | str = "auto"
        self.compiled_step: Callable[..., Any] | None = None
        self.is_step_compiled: bool | None = None  # By XLA; None until there is a step.
        self.class_weights: ClassWeights | None = None  # Those of the call of `fit` in progress.
        self._class_weights_in: ClassWeights | None = None  # Those in the train function.
        self._masked_in: dict[str, frozenset[int]] = {}
        self._trained_in: frozenset[int] = frozenset()
        self.forget_states()
        self.counted_rows = TrainingRows(None)
        self._rows_in: TrainingRows | None = None  # Those in the train function.
        self.fit_watch: FitWatch | None = None  # That of the call of `fit` in progress.

    @property
    def training_rows(self) -> float | None:
        """The number of rows in one pass over the training data: the one that was given, or `fit`'s count."""
        return self.counted_rows.number

    @training_rows.setter
    def training_rows(self, value: float | None) -> None:
        self.counted_rows = TrainingRows(value)

    def compile(
        self,
        optimizer: Any = "adam",
        loss: Any = None,
        loss_weights: Any = None,
        *,
        clip_norm: float | None = None,
        jit_compile: bool | str = "auto",
        metrics: Any = None,
        weighted_metrics: Any = None,
        run_eagerly: bool = False,
        steps_per_execution: int = 1,
        auto_scale_loss: bool = False,
    ) -> None:
        """Configures training.

        Args:
          optimizer: the optimizer, as `keras.Model.compile` takes it; None for a model that is only
            evaluated.
          loss: not accepted, where Keras has it: see `likelihood` of the constructor.
          loss_weights: not accepted: see `kl_weight` of the constructor, and `sample_weight` of `fit`.
          clip_norm: the global norm that the gradients of all variables are clipped to.
          jit_compile: whether XLA compiles the free energy and its gradients; "auto": wherever all layers
            support it, but for bfloat16 on a CPU without a distribution over any weight, which is faster so,
            and for so few steps of `fit`, times weights, that compiling would take longer than it saves.
          metrics: the metrics, as `keras.Model.compile` takes them; compiling again without them leaves none.
            They see the outputs under the draw in training (with sharpening, under one that has seen the
            targets), under the mean in evaluation. Always reported are `loss`, the NLL summed over time per
            row and the penalties of regularisers, in training and evaluation alike, so that `val_loss` can be
            compared with it; `nll` (nats per prediction); for a categorical likelihood `perplexity`; in
            training `free_energy`, which is minimised, that is `loss` and the share of the KL, and `kl`
            (nats). With sharpening so is `kl_sharpening` (nats per prediction), and `loss` and `perplexity`
            include it: in training `perplexity` is the bound exp(nll + kl_sharpening).
          weighted_metrics: the metrics that take sample weights; see `keras.Model.compile`.
          run_eagerly: whether steps run eagerly; see `keras.Model.compile`.
          steps_per_execution: the number of steps in one execution; see `keras.Model.compile`.
          auto_scale_loss: whether to scale the loss; see `keras.Model.compile`. Off by default: losses summed
            over time have gradients that half precision can hold.

        Raises:
          ValueError: if `loss` or `loss_weights` is given, or a number is out of range.
        """
        arguments.check_compile(
            clip_norm, jit_compile, steps_per_execution, loss=loss, loss_weights=loss_weights
        )
        optimizer = keras.optimizers.get(optimizer)
        if optimizer is not None:
            optimizers.check(optimizer, self.distribute_strategy)
        self.forget_compiled_metrics()
        super().compile(
            optimizer=optimizer,
            metrics=compiled_metrics.named(metrics, self.likelihood) or None,
            weighted_metrics=compiled_metrics.named(weighted_metrics, self.likelihood) or None,
            run_eagerly=run_eagerly,
            steps_per_execution=steps_per_execution,
            jit_compile=False,  # XLA does not compile the whole step; what is worth it is compiled below.
            auto_scale_loss=auto_scale_loss,
        )
        self.loss = "free_energy"  # The wrappers for scikit-learn ask whether there is one.
        self.auto_scale_loss = auto_scale_loss
        self.clip_norm = clip_norm
        self.jit_compile_request = jit_compile
        self.compiled_step = self.is_step_compiled = None
        self.forget_states()
        self._functions_under_draws = {}

    def fit(self, x: Any = None, *args: Any, **kwargs: Any) -> keras.callbacks.History:
        """Trains the model as `keras.Model.fit` does.

        Under a strategy of several replicas the batch size is that of all of them together, and each draws
        weights of its own for its rows. Where `x` has an `is_first`, nothing is shuffled: rows come in the
        order in which they are given. With a categorical likelihood, `class_weight` weighs every prediction
        by its target's class; with another likelihood it is Keras's.

        Raises:
          ValueError: if called under `MultiWorkerMirroredStrategy`, under which Keras 3 cannot `fit`; if
            rows with an `is_first` are to be shuffled; if a target that counts is not one of the
            likelihood's, such as a class without a logit, or an id is outside of a `VariationalEmbedding`.
            The step in which it comes is not taken.
        """
        ambient.refuse_around("fit", _DRAWS_ITSELF)
        if workers.are_several(self.distribute_strategy):
            raise ValueError(
                "Keras's fit does not run under MultiWorkerMirroredStrategy; tfp_bayesrnn.loop.Loop does. "
                f"Received: strategy={type(self.distribute_strategy).__name__}"
            )
        self.make_state_for(x)
        kwargs.update(zip(list(inspect.signature(super().fit).parameters)[1:], args, strict=False))
        kwargs = in_order(x, kwargs)
        with class_weights.taken_from(kwargs, self), checks.explained(), fit_watch.watching(self, kwargs):
            return super().fit(x, **kwargs)

    def begins_to_read(self, iterator: Any) -> None:
        """Has the watch of `fit` look at what `fit` reads first."""
        if self.fit_watch is not None:
            self.fit_watch.look_at(iterator)

    def train_on_batch(
        self,
        x: Any,
        y: Any = None,
        sample_weight: Any = None,
        class_weight: Any = None,
        return_dict: bool = False,
    ) -> Any:
        """Trains on one minibatch as `keras.Model.train_on_batch` does; for `class_weight` see `fit`."""
        ambient.refuse_around("train_on_batch", _DRAWS_ITSELF)
        kwargs = {"sample_weight": sample_weight, "class_weight": class_weight}
        with class_weights.taken_from(kwargs, self), checks.explained():
            return super().train_on_batch(x, y, return_dict=return_dict, **kwargs)

    def make_train_function(self, force: bool = False) -> Any:
        """Makes the train function, anew for other class weights and where others are pruned or frozen."""
        trained = frozenset(id(variable) for variable in self.trainable_variables)
        changed, self._trained_in = trained != self._trained_in, trained
        if self._masks_have_changed("train") or changed or force:
            force, self.compiled_step = True, None
        if self.is_step_compiled is False and self.use_jit():  # For more steps than those of an earlier call.
            force, self.compiled_step = True, None
        if self.counted_rows is not self._rows_in:
            force, self.compiled_step, self._rows_in = True, None, self.counted_rows
        if self.class_weights != self._class_weights_in:
            force, self._class_weights_in = True, self.class_weights
        return super().make_train_function(force)

    def make_test_function(self, force: bool = False) -> Any:
        """Makes the test function, anew after weights have been pruned or unpruned."""
        return super().make_test_function(self._masks_have_changed("test") or force)

    def make_predict_function(self, force: bool = False) -> Any:
        """Makes the predict function, anew after weights have been pruned or unpruned."""
        return super().make_predict_function(self._masks_have_changed("predict") or force)

    def _masks_have_changed(self, function: str) -> bool:
        """Whether other weights have masks than when the function was made; a mask is part of its graph."""
        if self._held_draw is not None:
            function = (
                f"{function} under draws, {'without' if self._held_draw.seed is None else 'with'} masks"
            )
        masked = frozenset(id(weight) for weight in self.posterior.weights if weight.is_pruned)
        before = self._masked_in.get(function, frozenset())
        self._masked_in[function] = masked
        return masked != before

    def train_step(self, data: Any) -> dict[str, Any]:
        """Takes one step of training, for `fit`; returns the metrics so far."""
        if self.class_weights is not None:
            outputs = self.network.compute_output_spec(steps.unpack(data).inputs)
            data = self.class_weights.added_to(data, tf.TensorSpec(outputs.shape))
        self.update(data)
        return self.get_metrics_result()

    def update(self, data: Any) -> dict[str, tf.Tensor]:
        """Takes a step of the model's own."""
        raise NotImplementedError

    def example_for_build(self, iterator: Any, data_batch: Any) -> tuple[Any, Any]:
        """Returns what Keras builds the model from: under a strategy, the minibatch of one replica."""
        # Keras takes the mean of the replicas' first minibatches, which booleans such as `is_first` do not
        # have. Only shapes and types matter: those of one replica will do.
        if iterator is not None and replicas.is_distributed(self.distribute_strategy):
            _, _, distributed = next(iter(iterator))
            data_batch = replicas.first(self.distribute_strategy, next(distributed))
            iterator = None
        return iterator, data_batch

    def use_jit(self) -> bool:
        """Whether XLA compiles the free energy and its gradients."""
        return compilation.uses_xla(self)

    def get_compile_config(self) -> dict[str, Any] | None:
        """The arguments of `compile`; None for a model that has not been compiled."""
        if not self.compiled:
            return None
        config = super().get_compile_config()
        return {
            **{name: value for name, value in config.items() if name not in ("loss", "loss_weights")},
            "clip_norm": self.clip_norm,
            "jit_compile": self.jit_compile_request,
            "auto_scale_loss": self.auto_scale_loss,
        }

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compiles the model as the saved one was."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.built and self.optimizer is not None:
            optimizers.build(self.optimizer, self.trainable_variables)
