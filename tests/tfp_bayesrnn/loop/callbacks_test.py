"""`fit` interrupted and started again."""

import os

import keras
import numpy as np
import pytest
from small_models import as_dataset, assert_identical, language_model, regression, tokens, values, windows

from tfp_bayesrnn import BayesianModel, Dropout, ExactResume, HoldThenDecay, PosteriorSharpening
from tfp_bayesrnn.errors import InputError

ELEMENTS = windows(tokens(length=8))
STEPS, EPOCHS = len(ELEMENTS), 3


class Interrupted(Exception):
    """The process ends here."""


class InterruptBefore(keras.callbacks.Callback):
    """Ends the process before a minibatch, counted from 1 over all epochs."""

    def __init__(self, minibatch):
        super().__init__()
        self.left = minibatch

    def on_train_batch_begin(self, batch, logs=None):
        self.left -= 1
        if not self.left:
            raise Interrupted


def elements(starts_afresh):
    """One pass; without `starts_afresh` the rows go on from the pass before."""
    made = [({**x, "is_first": x["is_first"] & starts_afresh}, y) for x, y in ELEMENTS]
    return as_dataset(made)


def fit(directory, strategy, interrupt=0, starts_afresh=True, epochs=EPOCHS):
    """A process's worth of objects, trained; and their history."""
    with strategy.scope():
        model = language_model(
            layers=[Dropout(0.2, seed=0)], sharpening=PosteriorSharpening(0.3), run_eagerly=False
        )
        rate = HoldThenDecay(0.5, STEPS, hold_epochs=1, decay=0.5)
        model.compile(keras.optimizers.SGD(rate, momentum=0.9), clip_norm=2.0, jit_compile=False)
    callbacks = [ExactResume(directory), InterruptBefore(interrupt)]
    try:
        history = model.fit(elements(starts_afresh), epochs=epochs, verbose=0, callbacks=callbacks)
    except Interrupted:
        return model, None
    return model, history


def everything(model):
    carried = [value.numpy() for value in model.training_state()["state"].read()]
    own = model.sharpening.optimizer.variables
    return [*values([*model.variables, *model.optimizer.variables, *own]), *carried]


@pytest.mark.usefixtures("eagerly")
class TestExactResume:
    @pytest.mark.slow
    @pytest.mark.parametrize(("count", "starts_afresh"), [(1, True), (1, False), (2, False)])
    def test_ends_as_if_never_interrupted(self, mirrored, tmp_path, count, starts_afresh):
        whole, history = fit(tmp_path / "whole", mirrored(count), starts_afresh=starts_afresh)
        for interrupt in (1, STEPS + 1, 2 * STEPS + 2) if count == 1 else (STEPS + 2,):
            directory = tmp_path / str(interrupt)
            fit(directory, mirrored(count), interrupt, starts_afresh)
            resumed, rest = fit(directory, mirrored(count), starts_afresh=starts_afresh)
            done = (interrupt - 1) // STEPS
            assert rest.epoch == list(range(done, EPOCHS))
            assert_identical(everything(resumed), everything(whole))
            for name, by_epoch in rest.history.items():
                assert by_epoch == history.history[name][done:], name

    @pytest.mark.slow
    def test_what_is_done_is_not_done_again_and_more_can_be_added(self, mirrored, tmp_path):
        whole, _ = fit(tmp_path / "whole", mirrored(1))
        fit(tmp_path / "parts", mirrored(1), epochs=2)
        same, history = fit(tmp_path / "parts", mirrored(1), epochs=2)
        assert history.epoch == []
        more, history = fit(tmp_path / "parts", mirrored(1), epochs=3)
        assert history.epoch == [2]
        assert_identical(everything(more), everything(whole))
        assert same._initial_epoch is None

    @pytest.mark.slow
    def test_past_a_damaged_checkpoint(self, mirrored, tmp_path):
        whole, _ = fit(tmp_path, mirrored(1))
        for path in tmp_path.glob("ckpt-3.data*"):
            os.truncate(path, 10)
        resumed, history = fit(tmp_path, mirrored(1))
        assert history.epoch == [2]
        assert_identical(everything(resumed), everything(whole))

    @pytest.mark.slow
    def test_of_another_model(self, mirrored, tmp_path):
        fit(tmp_path, mirrored(1))
        with pytest.raises(InputError, match="of another model"):
            regression().fit(np.zeros([2, 3]), np.zeros([2, 1]), verbose=0, callbacks=[ExactResume(tmp_path)])

    def test_a_model_that_is_not_built(self, tmp_path):
        model = BayesianModel(keras.Sequential([keras.layers.Dense(1)]))
        model.compile(keras.optimizers.SGD(0.1))
        with pytest.raises(
            ValueError, match=r"needs a model that is built .* Received: model='bayesian_model"
        ):
            model.fit(np.zeros([2, 3]), np.zeros([2, 1]), verbose=0, callbacks=[ExactResume(tmp_path)])
