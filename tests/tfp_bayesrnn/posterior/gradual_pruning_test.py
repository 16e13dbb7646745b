"""Pruning during training: its schedule, and that what is dropped stays so."""

import itertools

import keras
import numpy as np
import pytest
import small_models

from tfp_bayesrnn import GradualPruning, PointMass, VariationalDense
from tfp_bayesrnn.posterior import pruning
from tfp_bayesrnn.posterior.gradual_pruning import PruningSchedule

X, Y = small_models.regression_data()


def wide_regression(**arguments):
    layers = [
        VariationalDense(20, activation="tanh", **small_models.WIDE),
        VariationalDense(1, **small_models.WIDE),
    ]
    return small_models.regression(layers, **arguments)


def dropped(model):
    return {path: ~keep for path, keep in pruning.masks_of(model.posterior).items()}


class TestSchedule:
    def test_it_is_the_cubic_of_the_paper(self):
        """s_f (1 - (1 - (t - t_0) / (n Delta t))^3), their eq. 1 with s_i = 0, after n = 4 epochs."""
        schedule = PruningSchedule(0.8, first_epoch=3, last_epoch=6)
        found = [schedule.fraction_after(epoch) for epoch in range(9)]
        expected = [0.8 * (1 - (1 - t) ** 3) for t in (0, 0, 0, 0.25, 0.5, 0.75, 1, 1, 1)]
        np.testing.assert_allclose(found, expected, rtol=1e-12)

    @pytest.mark.parametrize(
        ("arguments", "named"),
        [
            ((0.0, 1, 2), "fraction=0.0"),
            ((1.0, 1, 2), "fraction=1.0"),
            ((0.5, 0, 2), "first_epoch=0"),
            ((0.5, 3, 2), "last_epoch=2"),
            ((0.5, 1, 2, "size"), "by='size'"),
            ((0.5, 1, 2, "magnitude", "layer"), "scope='layer'"),
        ],
    )
    def test_what_it_refuses(self, arguments, named):
        with pytest.raises(ValueError, match=named):
            PruningSchedule(*arguments)

    def test_a_network_without_distributions_has_no_signal_to_noise(self):
        model = small_models.regression([VariationalDense(1, posterior=PointMass())])
        with pytest.raises(ValueError, match="by='magnitude'"):
            PruningSchedule(0.5, 1, 2).prepare(model.posterior)
        PruningSchedule(0.5, 1, 1, by="magnitude").prepare(model.posterior)

    def test_a_smaller_share_than_is_dropped_already_drops_nothing(self):
        model = wide_regression()
        pruning.prune(model.posterior, pruning.masks(model.posterior, 0.5))
        before = dropped(model)
        schedule = PruningSchedule(0.6, 1, 8)
        schedule.prepare(model.posterior)
        assert not schedule.tighten(model.posterior, 1)
        assert all(np.array_equal(before[weight], one) for weight, one in dropped(model).items())
        assert schedule.tighten(model.posterior, 8)


class TestFit:
    def test_masks_tighten_and_never_loosen(self):
        model, seen, logs = wide_regression(), [], []

        class Watch(keras.callbacks.Callback):
            def on_epoch_end(self, epoch, found=None):
                seen.append(dropped(model))
                logs.append(found["pruned"])

        model.fit(X, Y, epochs=5, verbose=0, callbacks=[GradualPruning(0.6, 2, 4), Watch()])
        sizes = sum(one.size for one in seen[0].values())
        shares = [sum(int(one.sum()) for one in each.values()) for each in seen]
        expected = [round(sizes * 0.6 * (1 - (1 - t) ** 3)) for t in (0, 1 / 3, 2 / 3, 1, 1)]
        assert shares == expected
        np.testing.assert_allclose(logs, np.array(expected) / sizes, rtol=1e-12)
        for before, after in itertools.pairwise(seen):
            assert all(np.all(after[weight] >= before[weight]) for weight in after)
        for weight, gone in seen[-1].items():
            assert not np.any(weight.mean().numpy()[gone])

    def test_a_compiled_step_sees_the_masks(self):
        """Those of the next epoch are other values of the same variables, so nothing is traced anew."""
        model = wide_regression(compiled=False)
        model.compile(keras.optimizers.SGD(0.1), jit_compile=True)
        callback = GradualPruning(0.5, 1, 1)
        model.fit(X, Y, batch_size=6, epochs=1, verbose=0, callbacks=[callback])
        gone, before = dropped(model), {w: w.mu.numpy() for w in model.posterior.variational}
        model.fit(X, Y, batch_size=6, epochs=1, verbose=0)
        for weight, old in before.items():
            moved = weight.mu.numpy() != old
            assert not np.any(moved & gone[weight])
            assert np.all(moved | gone[weight])
