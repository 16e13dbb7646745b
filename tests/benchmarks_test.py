"""The statistics of the benchmarks: what they compute from gradients and from the metrics of runs."""

import types

import numpy as np
import pytest
import tensorflow as tf

from benchmarks import gradient_variance, sharpening
from tfp_bayesrnn import noise


def test_moments_of_a_gradient_of_known_distribution():
    """Two weights' gradients, N(3, 2^2) in 600 elements and N(0, 0.5^2) in 400."""

    def gradients(batch, state, seed, kl_weight):
        del batch, state, kl_weight
        return [3.0 + 2.0 * noise.normal([20, 30], seed), 0.5 * noise.normal([400], noise.derive(seed, 1))]

    draws = 50
    found = gradient_variance.moments(gradients, None, None, 1.0, draws)
    expected = 600 * 2.0**2 + 400 * 0.5**2
    # Standard error of a variance over n draws and m elements: sqrt(2 / (n m)) of each element's; 4 of them.
    assert found.variance == pytest.approx(expected, rel=4 * np.sqrt(2 / (600 * (draws - 1))))
    # The squared mean of 600 elements: its noise is 2 * 3 * 2 / sqrt(draws) in each, independent.
    assert found.signal == pytest.approx(600 * 9.0, abs=4 * 2 * 3.0 * 2.0 * np.sqrt(600 / draws))


def test_a_gradient_without_noise_has_no_variance():
    found = gradient_variance.moments(lambda *_: [tf.fill([10], 2.0)], None, None, 1.0, 3)
    assert found == (pytest.approx(0.0, abs=1e-4), pytest.approx(40.0))


def test_perplexities_by_epoch_of_as_many_epochs_as_both_runs_have():
    def run(*perplexities):
        lines = [
            {"epoch": epoch, "perplexity": perplexity, "train_kl_sharpening": 0.0025}
            for epoch, perplexity in enumerate(perplexities, start=1)
        ]
        return types.SimpleNamespace(read_metrics=lambda: lines)

    table = sharpening.by_epoch({"bbb": run(200.0, 100.0, 90.0), "sigma0 0.02": run(190.0, 101.0)})
    head, *lines = table.splitlines()
    assert head.split() == ["epoch", "bbb", "sigma0", "0.02"]
    assert [line.split() for line in lines] == [
        ["1", "200.00", "190.00", "(-5.00", "%,", "KL", "0.0025/token)"],
        ["2", "100.00", "101.00", "(+1.00", "%,", "KL", "0.0025/token)"],
    ]


def test_differences_are_paired_by_seed():
    def pair(plain, sharpened):
        return {"bbb": {"test": {"perplexity": plain}}, "sigma0 1": {"test": {"perplexity": sharpened}}}

    table = sharpening.paired([pair(20.0, 19.0), pair(30.0, 28.0), pair(40.0, 37.0)])
    assert "bbb          30.000 ± 5.774" in table
    # Differences 1, 2, 3: standard deviation 1, so 1 / sqrt(3); unpaired it would be ten times that.
    assert "difference by seed -2.000 ± 0.577" in table
