"""A run of the project's own loop on a small model, which can be interrupted before any step."""

import keras
import pytest
import tensorflow as tf
from small_models import assert_identical, language_model, tokens, values, windows

from tfp_bayesrnn import Dropout, HoldThenDecay
from tfp_bayesrnn.loop.loop import Hooks, Loop
from tfp_bayesrnn.model.evaluation import StreamEvaluator

ELEMENTS = windows(tokens(length=4), unroll=2)
VALIDATION = windows(tokens(length=2, seed=8), unroll=2)
STEPS, EPOCHS = len(ELEMENTS), 2


class Interrupted(Exception):
    """The process ends here: nothing catches it."""


class Run(Hooks):
    """A process's worth of objects around a directory of checkpoints."""

    stop_before = None

    def __init__(
        self,
        directory,
        checkpoint_seconds=0.0,
        rate=None,
        validation=None,
        steps=STEPS,
        use_ema=False,
        ema_momentum=0.99,
        **watch,
    ):
        self.reports, self.asked_for = [], []
        self.model = language_model(layers=[Dropout(0.2, seed=0)], kl_warmup_steps=4)
        rate = rate or HoldThenDecay(0.5, STEPS, hold_epochs=1, decay=0.5)
        optimizer = keras.optimizers.SGD(rate, momentum=0.9, use_ema=use_ema, ema_momentum=ema_momentum)
        self.model.compile(optimizer, clip_norm=5.0, jit_compile=False, metrics=["accuracy"])
        self.loop = Loop(self.model, self.stream, steps, directory, checkpoint_seconds, **watch)
        self.evaluator = StreamEvaluator(self.model)
        self.validation = iter(validation) if validation is not None else None

    def stream(self, step):
        self.asked_for.append(step)
        while True:
            yield tf.nest.map_structure(tf.constant, ELEMENTS[step % STEPS])
            step += 1

    def on_epoch_end(self, report):
        self.reports.append(report)
        return next(self.validation) if self.validation else self.evaluator.mean(VALIDATION).nll

    def train(self, epochs=EPOCHS, stop_before=None, at_stop=None):
        """Goes on from the newest checkpoint; `at_stop` happens before step `stop_before`, from 1 on."""

        self.stop_before, self.at_stop = stop_before, at_stop
        self.first_step = self.loop.restore()
        self.loop.run(self.first_step, epochs, self)
        return self

    def steps(self, steps, label):
        for step in steps:
            if step == self.stop_before:
                self.at_stop()
            yield step

    def interrupted(self, stop_before):
        def interrupt():
            raise Interrupted

        with pytest.raises(Interrupted):
            self.train(stop_before=stop_before, at_stop=interrupt)
        return self

    def variables(self):
        carried = self.model._carried_train.variables_flat
        return values(
            [*self.model.variables, *self.model.optimizer.variables, *carried, *self.loop.progress.variables]
        )

    def checkpoints(self):
        return self.loop.checkpoints


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    tf.config.run_functions_eagerly(True)
    return Run(tmp_path_factory.mktemp("uninterrupted")).train()


def assert_as_uninterrupted(run, uninterrupted):
    assert_identical(run.variables(), uninterrupted.variables())
    assert run.checkpoints().best_step == uninterrupted.checkpoints().best_step
    epochs = {report.epoch: report.logs for report in uninterrupted.reports}
    assert run.reports
    for report in run.reports:
        assert report.logs == epochs[report.epoch]
        assert report.step == report.epoch * STEPS
