"""The optimizer and the objective of a configuration."""

import numpy as np
import pytest
import tensorflow as tf

from tfp_bayesrnn import HoldThenDecay, HoldThenLinear, NormalPrior
from tfp_bayesrnn.errors import InputError
from tfp_bayesrnn.optimization import optimizers
from zoo.configuration.config import with_overrides
from zoo.language_model.model import build_model
from zoo.presets import get_preset

STEPS = 10


def model(**overrides):
    config = with_overrides(
        get_preset("demo_bbb"), {"model.units": 4, "model.embedding_units": 4, "model.layers": 1, **overrides}
    )
    return build_model(config, vocabulary_size=5, windows_per_epoch=STEPS)


class TestSchedules:
    def test_geometric(self):
        rate = model().optimizer._learning_rate
        assert isinstance(rate, HoldThenDecay)

    def test_linear_ends_with_the_last_epoch(self):
        rate = model(**{"train.schedule": "linear", "train.epochs": 5, "train.hold_epochs": 2})
        rate = rate.optimizer._learning_rate
        assert isinstance(rate, HoldThenLinear)
        assert [float(rate(step * STEPS)) for step in (0, 2, 5)] == [1.0, 1.0, 0.0]


def test_the_scales_have_a_rate_of_their_own():
    made = model(**{"train.scale_rate": 3.0, "train.learning_rate": 0.5})
    variables = made.trainable_variables
    before = [variable.numpy() for variable in variables]
    optimizers.build(made.optimizer, variables)
    optimizers.apply(made.optimizer, [tf.ones(variable.shape) for variable in variables], variables)
    moved = {
        variable.path.split("/")[-1]: float(np.mean(old - variable.numpy()))
        for old, variable in zip(before, variables, strict=True)
    }
    assert moved == pytest.approx({"mu": 0.5, "rho": 1.5}, rel=1e-5)


def test_averages():
    optimizer = model(**{"train.average_momentum": 0.9}).optimizer
    assert optimizer.use_ema and optimizer.ema_momentum == 0.9
    assert not model().optimizer.use_ema


def test_antithetic():
    assert model(**{"train.antithetic": True}).antithetic


@pytest.mark.parametrize(("family", "learned"), [("normal", False), ("learned_normal", True)])
def test_normal_priors(family, learned):
    weights = model(**{"prior.family": family, "prior.scale": 0.2}).posterior.weights
    priors = {(type(each.prior), each.prior.scale, each.prior.learned) for each in weights}
    assert priors == {(NormalPrior, 0.2, learned)}


@pytest.mark.parametrize(
    ("preset", "overrides", "named"),
    [
        ("demo_bbb", {"prior.scale": 0.2}, "prior.scale=0.2 has no effect with prior.family='mixture'"),
        (
            "demo_bbb",
            {"prior.family": "normal", "prior.pi": 0.5},
            "prior.pi=0.5 has no effect with prior.family",
        ),
        ("demo_dropout", {"train.antithetic": True}, "train.antithetic=True has no effect with method="),
        ("demo_deterministic", {"train.scale_rate": 2.0}, "train.scale_rate=2.0 has no effect with method="),
    ],
)
def test_what_has_no_effect_is_refused(preset, overrides, named):
    with pytest.raises(InputError, match=named):
        with_overrides(get_preset(preset), overrides).check()


@pytest.mark.parametrize(
    ("preset", "overrides", "named"),
    [
        ("demo_bbb", {"pruning.fraction": 0.5, "pruning.last_epoch": 17}, "pruning.last_epoch=17"),
        ("demo_bbb", {"pruning.fraction": 0.5, "pruning.first_epoch": 12}, "pruning.first_epoch=12"),
        (
            "demo_bbb",
            {"pruning.by": "magnitude"},
            "pruning.by='magnitude' has no effect with pruning.fraction",
        ),
        ("demo_dropout", {"pruning.fraction": 0.5}, "accepted is pruning.by=magnitude"),
    ],
)
def test_what_cannot_be_pruned_is_refused(preset, overrides, named):
    with pytest.raises(InputError, match=named):
        with_overrides(get_preset(preset), overrides).check()
