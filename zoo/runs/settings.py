"""The configuration that every task has: distributions, training, computation.

TensorFlow is not imported: listing presets does without.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from zoo.configuration import checks, limits, methods
from zoo.configuration.fields import Change, Table, setting, table

GRANULARITIES = ("row", "weight", "tensor")
COMPUTE_DTYPES = ("float32", "bfloat16", "float16")
JIT_COMPILE = ("auto", "on", "off")
OPTIMIZERS = ("sgd", "adam")
PRIOR_FAMILIES = ("mixture", "normal", "learned_normal")
FAMILIES = ("mean_field", "k_tied")
SCHEDULES = ("geometric", "linear")
SHARPENING_FORMS = ("paper", "scaled")
RANKINGS = ("signal_to_noise", "magnitude")
PRUNING_SCOPES = ("network", "weight")


@dataclass(frozen=True, kw_only=True)
class Prior(Table):
    """The prior of weights: the scale mixture of Fortunato et al. (2017) as in their code, or a normal."""

    family: str = setting(
        "mixture",
        checks.choice(*PRIOR_FAMILIES),
        "a mixture of two normals, one normal, or one normal for each weight tensor whose scale is learned",
        added=True,
    )
    scale: float = setting(
        0.1, checks.POSITIVE, "standard deviation of a normal prior; a learned one starts there", added=True
    )
    pi: float = setting(0.25, checks.FRACTION, "share of the wide component")
    log_sigma1: float = setting(-1.0, checks.NUMBER, "logarithm of the wide component's scale")
    log_sigma2: float = setting(-7.0, checks.NUMBER, "logarithm of the narrow component's scale")
    granularity: str = setting("row", checks.choice(*GRANULARITIES), "what is drawn from one component")


@dataclass(frozen=True, kw_only=True)
class Posterior(Table):
    """The variational family, and how wide it begins, in units of the prior's standard deviation."""

    family: str = setting(
        "mean_field",
        checks.choice(*FAMILIES),
        "whether each weight has a scale of its own or those of a matrix are a product of rank k",
        added=True,
    )
    k: int = setting(2, checks.whole(1, limits.RANK), "that rank, of the family k_tied", added=True)
    recurrent_scale_range: tuple[float, float] = setting(
        (0.25, 0.5), checks.SCALE_RANGE, "of recurrent layers: lowest and highest"
    )
    other_scale_range: tuple[float, float] = setting(
        (0.5, 1.0), checks.SCALE_RANGE, "of other layers, such as embedding and softmax"
    )


@dataclass(frozen=True, kw_only=True)
class Sharpening(Table):
    """Posterior sharpening, of the method bbb_sharpened."""

    sigma0: float = setting(0.02, checks.not_negative(), "scale of the sharpened posterior", added=True)
    learning_rate: float = setting(
        0.001, checks.not_negative(), "of the sharpening's own optimizer", added=True
    )
    second_order: bool = setting(False, checks.FLAG, "whether it is differentiated through", added=True)
    form: str = setting(
        "paper", checks.choice(*SHARPENING_FORMS), "the paper's, or with scales that are learned", added=True
    )


@dataclass(frozen=True, kw_only=True)
class Pruning(Table):
    """Pruning during training (Zhu and Gupta, 2018)."""

    fraction: float = setting(
        0.0, checks.RATE, "share of all weights that is dropped in the end; 0: none", added=True
    )
    first_epoch: int = setting(
        1, checks.whole(1, limits.EPOCHS), "the epoch after which weights are dropped first", added=True
    )
    last_epoch: int = setting(
        10, checks.whole(1, limits.EPOCHS), "the epoch after which that share is reached", added=True
    )
    by: str = setting(
        "signal_to_noise", checks.choice(*RANKINGS), "what is dropped first: the lowest of it", added=True
    )
    scope: str = setting(
        "network",
        checks.choice(*PRUNING_SCOPES),
        "whether all weights are ranked together or the same share of each is dropped",
        added=True,
    )


@dataclass(frozen=True, kw_only=True)
class Training(Table):
    """The settings of training; `zoo.presets` says what the schedule's fields count."""

    batch: int = setting(20, checks.ROWS, "rows of a minibatch, of all replicas together")
    epochs: int = setting(20, checks.whole(1, limits.EPOCHS), "passes over the training data", Change.RESUMED)
    optimizer: str = setting("sgd", checks.choice(*OPTIMIZERS), "what makes steps of gradients", added=True)
    learning_rate: float = setting(1.0, checks.POSITIVE, "of the first epochs", Change.FINE_TUNED)
    hold_epochs: int = setting(8, checks.COUNT, "epochs at the full learning rate", Change.FINE_TUNED)
    schedule: str = setting(
        "geometric",
        checks.choice(*SCHEDULES),
        "how it falls then: by a factor in each epoch, or in a straight line to 0 at the end of the last",
        Change.FINE_TUNED,
        added=True,
    )
    decay: float = setting(0.8, checks.SHARE, "that factor, of the schedule geometric", Change.FINE_TUNED)
    scale_rate: float = setting(
        1.0, checks.POSITIVE, "learning rate of the posterior's scales, in units of the means'", added=True
    )
    average_momentum: float = setting(
        0.0,
        checks.RATE,
        "of the moving average of all weights over the steps, which is scored and kept; 0: there is none",
        added=True,
    )
    antithetic: bool = setting(
        False, checks.FLAG, "whether halves of a minibatch have opposite noise: +eps and -eps", added=True
    )
    clip_norm: float = setting(5.0, checks.POSITIVE, "largest norm of all gradients together")
    kl_weight: float = setting(1.0, checks.not_negative(), "of the KL in the loss; 1: the free energy")
    kl_warmup_epochs: float = setting(
        0.0, checks.not_negative(limits.EPOCHS), "epochs in which that weight grows from 0"
    )
    weight_decay: float = setting(0.0, checks.not_negative(), "what weights shrink by, times a weight")
    patience: int = setting(
        0,
        checks.COUNT,
        "epochs without a better validation NLL after which training ends; 0: never",
        Change.RESUMED,
        added=True,
    )
    max_nll: float = setting(
        5.0,
        checks.not_negative(),
        "NLL of a step, as a multiple of guessing's, at which training has exploded; 0: never",
        Change.RESUMED,
        added=True,
    )
    step_backs: int = setting(
        0,
        checks.COUNT,
        "how often, in all, training that has diverged goes back to the last checkpoint; then it ends",
        Change.RESUMED,
        added=True,
    )
    step_back_factor: float = setting(
        0.5, checks.FRACTION, "what its learning rate is multiplied by then", Change.RESUMED, added=True
    )
    checkpoint_seconds: float = setting(
        300.0,
        checks.not_negative(),
        "the longest time between two checkpoints; there is one after every epoch",
        Change.RESUMED,
        added=True,
    )
    early_validation_seconds: float = setting(
        600.0,
        checks.not_negative(),
        "the time between validations in the first epoch, whose weights are the best checkpoint until the "
        "epoch ends; 0: there are none",
        Change.RESUMED,
        added=True,
    )


class NamedData(Protocol):
    """The table `data` of every task."""

    @property
    def name(self) -> str:
        """The data set's name."""


class Evaluated(Protocol):
    """The table `evaluate` of every task."""

    def to_dict(self) -> dict[str, Any]:
        """The values by the names of the fields."""

    @property
    def num_samples(self) -> int:
        """The number of draws of the weights that predictions are averaged over."""


@dataclass(frozen=True, kw_only=True)
class RunConfig(Table):
    """The configuration that every task has. A task derives its own, with what it reads besides.

    It narrows `task` and `method` to what it accepts, and adds its tables: `data` with the field `name`,
    `model`, `evaluate` and what it needs.
    """

    task: str = setting("", checks.TEXT, "what is learnt")
    preset: str = setting("", checks.TEXT, "what the configuration began with")
    description: str = setting("", checks.TEXT, "the preset in words", Change.RESUMED)
    method: str = setting("deterministic", checks.choice(*methods.METHODS), "how weights are learnt")
    prior: Prior = table(Prior)
    posterior: Posterior = table(Posterior)
    sharpening: Sharpening = table(Sharpening)
    train: Training = table(Training)
    pruning: Pruning = table(Pruning)
    seed: int = setting(0, checks.SEED, "of initial weights, draws and whatever else is random")
    compute_dtype: str = setting("float32", checks.choice(*COMPUTE_DTYPES), "precision of the computation")
    jit_compile: str = setting(
        "auto", checks.choice(*JIT_COMPILE), "whether XLA compiles it", Change.EVALUATED
    )

    if TYPE_CHECKING:  # The tables that every task adds, as far as they are known of every task.

        @property
        def data(self) -> NamedData:
            """The table of the data."""

        @property
        def model(self) -> Any:
            """The table of the network; only the task knows what it has."""

        @property
        def evaluate(self) -> Evaluated:
            """The settings by which it is scored."""

    def check(self) -> None:
        """Checks that nothing is set without effect, and that weights can be dropped as they are to be.

        Raises:
          InputError: something is, or they cannot.
        """
        from tfp_bayesrnn.errors import InputError

        super().check()
        self._check_pruning()
        for table_name, field, reason, other in self._without_effect():
            used = getattr(self, table_name)
            value, default = getattr(used, field), getattr(type(used)(), field)
            if value != default:
                raise InputError(
                    f"{table_name}.{field}={value!r} has no effect with {reason}; accepted then: "
                    f"{default!r}, or {other}"
                )

    def _check_pruning(self) -> None:
        from tfp_bayesrnn.errors import InputError

        given = self.pruning
        if not given.fraction:
            return
        if not given.first_epoch <= given.last_epoch <= self.train.epochs:
            raise InputError(
                f"pruning.first_epoch={given.first_epoch}, pruning.last_epoch={given.last_epoch} and "
                f"train.epochs={self.train.epochs} are not accepted together: they must ascend"
            )
        if given.by == "signal_to_noise" and self.method not in methods.BAYESIAN_METHODS:
            raise InputError(
                f"pruning.by='signal_to_noise' ranks by a posterior, and method={self.method!r} has none: "
                "accepted is pruning.by=magnitude"
            )

    def _without_effect(self) -> Iterator[tuple[str, str, str, str]]:
        """Table and field of what other settings make void, with which one does so and what would not."""
        if self.method not in methods.SHARPENED_METHODS:
            because = f"method={self.method!r}", "a preset that ends in bbb_sharpened"
            yield from (("sharpening", field, *because) for field in self.sharpening.to_dict())
        if self.method not in methods.BAYESIAN_METHODS:
            because = f"method={self.method!r}", "a preset of Bayes by Backprop"
            yield from (("posterior", field, *because) for field in ("family", "k"))
            yield from (("train", field, *because) for field in ("scale_rate", "antithetic"))
            yield from (("prior", field, *because) for field in ("family", "scale"))
        elif self.posterior.family != "k_tied":
            yield "posterior", "k", f"posterior.family={self.posterior.family!r}", "posterior.family=k_tied"
        if not self.pruning.fraction:
            because = "pruning.fraction=0.0", "a fraction above 0"
            yield from (("pruning", field, *because) for field in self.pruning.to_dict())
        family = f"prior.family={self.prior.family!r}"
        if self.prior.family == "mixture":
            yield "prior", "scale", family, "prior.family=normal"
        else:
            mixtures = ("pi", "log_sigma1", "log_sigma2", "granularity")
            yield from (("prior", field, family, "prior.family=mixture") for field in mixtures)


Config = TypeVar("Config", bound=RunConfig)
"""The configurations of one task."""
