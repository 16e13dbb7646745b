"""The project's own loop: interrupted and resumed anywhere, diverged, damaged."""

import math
import os
import shutil

import loop_runs
import numpy as np
import pytest
import tensorflow as tf
from loop_runs import EPOCHS, STEPS, Interrupted, Run, assert_as_uninterrupted
from small_models import assert_identical, values

from tfp_bayesrnn.errors import InputError
from tfp_bayesrnn.loop.loop import TrainingDiverged, TrainingStopped
from tfp_bayesrnn.posterior import pruning
from tfp_bayesrnn.posterior.gradual_pruning import PruningSchedule

uninterrupted = loop_runs.uninterrupted
pytestmark = pytest.mark.usefixtures("eagerly")


def files(directory):
    return {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}


class TestResume:
    def test_the_uninterrupted_run_does_what_resuming_could_get_wrong(self, uninterrupted):
        rates = uninterrupted.model.optimizer.learning_rate
        assert [report.epoch for report in uninterrupted.reports] == [1, 2]
        assert int(uninterrupted.model.optimizer.iterations) == STEPS * EPOCHS
        assert float(rates) == 0.125  # Of the next step, the first of epoch 3.
        figures = {"loss", "free_energy", "nll", "kl", "gradient_norm", "perplexity", "accuracy"}
        assert figures == set(uninterrupted.reports[0].logs)

    @pytest.mark.slow(every=3)
    @pytest.mark.parametrize("stop_before", range(1, STEPS * EPOCHS + 1))
    def test_at_any_step_goes_on_bit_for_bit(self, tmp_path, uninterrupted, stop_before):
        Run(tmp_path).interrupted(stop_before)
        resumed = Run(tmp_path).train()
        assert resumed.first_step == stop_before - 1
        assert resumed.asked_for[-1] == resumed.first_step
        assert_as_uninterrupted(resumed, uninterrupted)

    @pytest.mark.slow
    def test_from_the_epochs_end_where_no_later_checkpoint_was_due(self, tmp_path, uninterrupted):
        Run(tmp_path, checkpoint_seconds=math.inf).interrupted(STEPS + 2)
        resumed = Run(tmp_path, checkpoint_seconds=math.inf).train()
        assert resumed.first_step == STEPS
        assert_as_uninterrupted(resumed, uninterrupted)

    @pytest.mark.slow
    def test_between_the_last_step_of_an_epoch_and_its_checkpoint(self, tmp_path, uninterrupted):
        run = Run(tmp_path)

        def interrupt(report):
            raise Interrupted

        run.on_epoch_end = interrupt
        with pytest.raises(Interrupted):
            run.train()
        resumed = Run(tmp_path).train()
        assert resumed.first_step == STEPS - 1
        assert_as_uninterrupted(resumed, uninterrupted)

    @pytest.mark.slow
    def test_past_a_truncated_newest_checkpoint(self, tmp_path, uninterrupted):
        run = Run(tmp_path).interrupted(STEPS + 2)
        newest = next(tmp_path.glob(f"ckpt-{run.checkpoints().latest_step}.data*"))
        os.truncate(newest, newest.stat().st_size // 2)
        resumed = Run(tmp_path).train()
        assert resumed.first_step == STEPS
        assert_as_uninterrupted(resumed, uninterrupted)

    def test_epochs_that_are_done_are_not_done_again(self, uninterrupted):
        directory = uninterrupted.checkpoints().directory
        before = files(directory)
        for epochs in (1, EPOCHS):
            again = Run(directory).train(epochs)
            assert again.first_step == STEPS * EPOCHS
            assert_identical(again.variables(), uninterrupted.variables())
            assert not again.reports and files(directory) == before

    @pytest.mark.slow
    def test_more_epochs_can_be_added(self, tmp_path, uninterrupted):
        Run(tmp_path).train(epochs=1)
        added = Run(tmp_path).train(epochs=EPOCHS)
        assert [report.epoch for report in added.reports] == [2]
        assert_as_uninterrupted(added, uninterrupted)


class TestBest:
    @pytest.mark.parametrize(
        ("nlls", "best_epoch"),
        [([3.0, 1.0, 2.0], 2), ([2.0, 2.0], 1), ([math.nan, 5.0], 2)],
    )
    def test_is_of_the_lowest_validation_nll(self, tmp_path, nlls, best_epoch):
        run = Run(tmp_path, validation=nlls, steps=1)
        weights = {}
        on_epoch_end = run.on_epoch_end

        def keep(report):
            weights[report.epoch] = values(run.model.weights)
            return on_epoch_end(report)

        run.on_epoch_end = keep
        run.train(epochs=len(nlls))
        fresh = Run(tmp_path)
        assert fresh.checkpoints().restore_best() == best_epoch
        assert_identical(values(fresh.model.weights), weights[best_epoch])
        fresh.loop.restore()
        assert fresh.loop.best_nll == nlls[best_epoch - 1]

    @pytest.mark.slow
    def test_of_before_an_interruption_is_remembered(self, tmp_path):
        Run(tmp_path, validation=[1.0]).interrupted(STEPS + 2)
        run = Run(tmp_path, validation=[2.0]).train()
        assert run.checkpoints().best_step == STEPS


class TestDivergence:
    def test_of_the_loss_names_step_and_last_good_checkpoint_which_is_intact(self, tmp_path):
        run = Run(tmp_path, checkpoint_seconds=math.inf)
        good = {}

        def break_a_weight():
            good.update(files(tmp_path))
            run.model.trainable_variables[0].assign_add(
                np.full(run.model.trainable_variables[0].shape, np.nan, np.float32)
            )

        with pytest.raises(TrainingDiverged) as caught:
            run.train(stop_before=STEPS + 2, at_stop=break_a_weight)
        assert isinstance(caught.value, InputError) and "\n" not in str(caught.value)
        assert f"loss is not finite at step {STEPS + 2}:" in str(caught.value)
        assert f"checkpoint {STEPS} is good and kept" in str(caught.value)
        kept = files(tmp_path)
        diverged = {path for path in kept if path.parent.name == "diverged"}
        assert good and {path: kept[path] for path in kept.keys() - diverged} == good
        assert f"the diverged one is {tmp_path / 'diverged' / f'ckpt-{STEPS + 2}'}" in str(caught.value)
        evidence = tf.train.load_checkpoint(str(tmp_path / "diverged" / f"ckpt-{STEPS + 2}"))
        broken = [name for name in evidence.get_variable_to_shape_map() if name.startswith("model/")]
        assert any(np.isnan(evidence.get_tensor(name)).any() for name in broken)
        assert [step for step, _ in caught.value.trail] == list(range(1, STEPS + 3))
        assert math.isfinite(caught.value.trail[-2][1]["loss"]) and caught.value.step == STEPS + 2
        restored = Run(tmp_path)
        assert restored.loop.restore() == STEPS
        assert all(np.all(np.isfinite(value)) for value in values(restored.model.weights))

    @pytest.mark.parametrize("steps", [1, STEPS], ids=["end of an epoch", "amid an epoch"])
    def test_of_a_weight_is_not_saved_though_the_loss_was_finite(self, tmp_path, steps):
        """A rate at which the very first update overflows."""
        run = Run(tmp_path, rate=1e39, steps=steps)
        with pytest.raises(
            TrainingDiverged, match=r"not finite at step 1: .*; no checkpoint was written yet"
        ):
            run.train()
        assert not run.checkpoints().steps

    def test_of_an_exploding_loss(self, tmp_path):
        run = Run(tmp_path, max_nll=0.5)
        with pytest.raises(
            TrainingDiverged, match=r"the NLL is [\d.]+ nats per prediction, above 0.5, at step 1"
        ):
            run.train()

    @pytest.mark.slow
    @pytest.mark.parametrize("rate", [None, 0.5], ids=["a schedule", "a plain rate"])
    def test_steps_back_to_the_last_checkpoint_with_a_lower_rate(self, tmp_path, rate):
        def breaking():
            variable = run.model.trainable_variables[0]
            variable.assign(np.full(variable.shape, np.nan, np.float32))

        run = Run(tmp_path, math.inf, rate=rate, step_backs=3)
        backs = []
        run.on_step_back = backs.append
        before = float(run.model.optimizer.learning_rate)
        run.train(epochs=3, stop_before=STEPS + 2, at_stop=lambda: breaking() if len(backs) < 2 else None)
        assert backs == [STEPS, STEPS]
        assert int(run.loop.progress.step_backs) == 2
        # Twice from the same checkpoint: a quarter, and it is remembered.
        undecayed = 1.0 if rate else 0.125
        assert float(run.model.optimizer.learning_rate) == before * undecayed * 0.25
        assert [report.epoch for report in run.reports] == [1, 2, 3]
        fresh = Run(tmp_path, rate=rate)
        assert fresh.loop.restore() == 3 * STEPS
        assert float(fresh.model.optimizer.learning_rate) == before * undecayed * 0.25

    def test_after_the_last_step_back_training_ends(self, tmp_path):
        run = Run(tmp_path, max_nll=0.5, step_backs=2)
        backs = []
        run.on_step_back = backs.append
        with pytest.raises(TrainingDiverged, match="checkpoint 0 is good and kept"):
            run.train()
        assert backs == [0, 0]

    def test_training_ends_where_there_is_no_checkpoint_left_to_step_back_to(self, tmp_path):
        run = Run(tmp_path / "run", max_nll=0.5, step_backs=2)

        def clear():
            run.loop.checkpoints.finish_write()
            shutil.rmtree(tmp_path / "run")

        with pytest.raises(TrainingDiverged):
            run.train(stop_before=1, at_stop=clear)


class TestStopping:
    @pytest.mark.slow(but=["1_0", "3"])
    @pytest.mark.parametrize("stop_after", [1, STEPS - 1, STEPS, STEPS + 1])
    def test_saves_and_goes_on_bit_for_bit(self, tmp_path, uninterrupted, stop_after):
        run = Run(tmp_path, checkpoint_seconds=math.inf)
        run.should_stop = lambda: int(run.model.optimizer.iterations) == stop_after
        with pytest.raises(TrainingStopped, match=f"stopped at step {stop_after}; its checkpoint is saved"):
            run.train()
        assert run.checkpoints().latest_step == stop_after
        resumed = Run(tmp_path).train()
        assert resumed.first_step == stop_after
        assert_as_uninterrupted(resumed, uninterrupted)

    @pytest.mark.slow
    def test_after_so_many_epochs_without_a_better_validation(self, tmp_path):
        nlls = [3.0, 1.0, 2.0, 1.5, 0.5]
        run = Run(tmp_path, validation=nlls, steps=1, patience=2).train(epochs=5)
        assert [report.epoch for report in run.reports] == [1, 2, 3, 4]
        # Nor does it go on when started again, unless it is to be more patient.
        assert not Run(tmp_path, validation=[0.5], steps=1, patience=2).train(epochs=5).reports
        more = Run(tmp_path, validation=[0.5], steps=1, patience=3).train(epochs=5)
        assert [report.epoch for report in more.reports] == [5]


class Averaged(Run):
    """A run that notes its means of all weights after each step, and those that are validated."""

    def __init__(self, directory, **averages):
        super().__init__(directory, **averages)
        self.after_steps, self.validated = [], []

    def on_step(self, step, figures):
        self.after_steps.append(values(self.model.trainable_variables))

    def on_epoch_end(self, report):
        self.validated.append(values(self.model.trainable_variables))
        return super().on_epoch_end(report)


AVERAGES = {"use_ema": True, "ema_momentum": 0.8}


@pytest.fixture(scope="module")
def averaged(tmp_path_factory):
    tf.config.run_functions_eagerly(True)
    return Averaged(tmp_path_factory.mktemp("averaged"), **AVERAGES).train()


class TestAverages:
    def test_they_are_validated_and_training_goes_on_from_the_rest(self, averaged, tmp_path):
        for one, other in zip(averaged.after_steps, Averaged(tmp_path).train().after_steps, strict=True):
            assert_identical(one, other)
        expected = averaged.after_steps[0]
        for step, after in enumerate(averaged.after_steps[1:], 2):
            expected = [0.8 * one + 0.2 * other for one, other in zip(expected, after, strict=True)]
            if step % STEPS == 0:  # A dozen roundings of numbers of the order of 1.
                seen = averaged.validated[step // STEPS - 1]
                for one, other in zip(seen, expected, strict=True):
                    np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)

    def test_resumed(self, averaged, tmp_path):
        Averaged(tmp_path, **AVERAGES).interrupted(STEPS + 1)
        assert_identical(Averaged(tmp_path, **AVERAGES).train().validated[-1], averaged.validated[-1])

    def test_the_best_checkpoint_holds_them(self, averaged):
        epoch = int(averaged.loop.progress.best_epoch)
        averaged.checkpoints().restore_best()
        assert_identical(values(averaged.model.trainable_variables), averaged.validated[epoch - 1])


class Pruned(Run):
    """A run that drops weights, and notes those it has dropped when it validates."""

    def __init__(self, directory, **more):
        super().__init__(directory, pruning=PruningSchedule(0.6, 1, 2), **more)
        self.dropped = []

    def on_epoch_end(self, report):
        self.dropped.append([~keep for keep in pruning.masks_of(self.model.posterior).values()])
        return super().on_epoch_end(report)


class TestPruning:
    def test_resumed(self, tmp_path):
        whole = Pruned(tmp_path / "whole").train(epochs=4)
        Pruned(tmp_path / "parts").interrupted(STEPS + 2)
        parts = Pruned(tmp_path / "parts").train(epochs=4)
        assert_identical(parts.variables(), whole.variables())
        counts = [sum(int(one.sum()) for one in each) for each in whole.dropped]
        size = sum(one.size for one in whole.dropped[0])
        assert counts == [round(0.6 * 7 / 8 * size), *[round(0.6 * size)] * 3]

    def test_the_best_is_of_those_that_are_pruned_as_far(self, tmp_path):
        run = Pruned(tmp_path, validation=[1.0, 3.0, 2.0, 2.5]).train(epochs=4)
        assert run.checkpoints().best_step == 3 * STEPS
        again = Pruned(tmp_path)
        again.checkpoints().restore_best()
        found = [~keep for keep in pruning.masks_of(again.model.posterior).values()]
        assert_identical(found, run.dropped[-1])
