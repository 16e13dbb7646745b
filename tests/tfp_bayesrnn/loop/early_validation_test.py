"""A best checkpoint before the first epoch has ended, which changes nothing else."""

import math

import loop_runs
import pytest
from loop_runs import STEPS, VALIDATION, Run, assert_as_uninterrupted

uninterrupted = loop_runs.uninterrupted
pytestmark = pytest.mark.usefixtures("eagerly")


@pytest.fixture
def early(tmp_path):
    """A function that makes a run that validates after every step of the first epoch but its last."""

    def make():
        run = Run(tmp_path, early_validation_seconds=1e-9)
        run.early = []

        def validate(step):
            assert math.isfinite(run.evaluator.mean(VALIDATION).nll)
            run.early.append((step, run.checkpoints().best_step))

        run.on_early_validation = validate
        return run

    return make


def test_keeps_a_best_checkpoint_until_the_first_epoch_ends(early, uninterrupted):
    run, best = early(), []
    keep = run.loop.checkpoints.save_best
    run.loop.checkpoints.save_best = lambda step: (best.append(step), keep(step))
    run.train()
    assert run.early == [(step, step - 1 or None) for step in range(1, STEPS)]
    assert best[:STEPS] == list(range(1, STEPS + 1)) and best[STEPS:] in ([], [2 * STEPS])
    assert_as_uninterrupted(run, uninterrupted)


@pytest.mark.slow
def test_does_not_change_what_is_resumed(early, uninterrupted):
    assert early().interrupted(STEPS).checkpoints().best_step == STEPS - 1
    resumed = early().train()
    assert resumed.first_step == STEPS - 1 and not resumed.early
    assert_as_uninterrupted(resumed, uninterrupted)
