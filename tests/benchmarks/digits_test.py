import json
import sys

import numpy as np
import pytest
import tensorflow as tf

from benchmarks import digits
from tfp_bayesrnn.posterior import ambient


def two_classes(*first):
    """Probabilities of two classes, from those of the first."""
    return np.stack([first, 1.0 - np.array(first)], axis=1)


def generated(rows=240, validation_rows=80):
    """Ten patterns in noise, which are easily told apart, split as the real digits are."""
    generator = np.random.default_rng(0)
    patterns = generator.uniform(size=(10, 64))
    labels = generator.integers(0, 10, rows).astype(np.int32)
    images = (patterns[labels] + 0.2 * generator.normal(size=(rows, 64))).astype(np.float32)
    return digits.split(digits.Examples(images, labels), 100, seed=0, validation_rows=validation_rows)


def test_scores_counted_by_hand():
    scores = digits.score(np.log(two_classes(0.9, 0.65, 0.2)), np.array([0, 1, 1]))
    nll = -(np.log(0.9) + np.log(0.35) + np.log(0.8)) / 3
    assert scores == pytest.approx({"accuracy": 200 / 3, "nll": nll, "ece": 100 * (0.1 + 0.65 + 0.2) / 3})


def test_standard_errors_over_seeds():
    one = digits.mean_and_error([1.0, 2.0, 6.0])
    assert one == pytest.approx({"mean": 3.0, "standard_error": (7 / 3) ** 0.5})


def test_differences_are_paired_by_seed():
    base = [
        {"mean": {"nll": seed}, "samples": {"nll": seed}, "training": {"free_energy": seed}}
        for seed in (0.0, 2.0)
    ]
    ours = [
        {
            "mean": {"nll": seed + 1.0},
            "samples": {"nll": 0.0},
            "training": {"free_energy": seed - 3.0, "extra": 1.0},
        }
        for seed in (0.0, 2.0)
    ]
    difference = digits.paired_difference(ours, base)
    # However far the seeds lie apart, every pair differs by 1.
    assert difference["mean"]["nll"] == {"mean": 1.0, "standard_error": 0.0}
    assert difference["training"] == {"free_energy": {"mean": -3.0, "standard_error": 0.0}}
    assert difference["samples"]["nll"] == pytest.approx({"mean": -1.0, "standard_error": 1.0})


def test_a_split_shares_no_example_and_keeps_validation_apart():
    examples = digits.Examples(np.arange(50.0), np.arange(50))
    one, other, again = (
        [list(part.digits) for part in digits.split(examples, 20, seed, validation_rows=10)]
        for seed in (0, 1, 0)
    )
    for parts in (one, other):
        assert [len(part) for part in parts] == [20, 10, 20]
        assert sorted(parts[0] + parts[1] + parts[2]) == list(range(50))
    assert one == again
    assert one[1] == other[1]
    assert set(one[2]) != set(other[2])
    with pytest.raises(ValueError, match="training_rows"):
        digits.split(examples, 40, 0, validation_rows=10)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["deterministic", "dropout", "bbb", "bbb_sharpened"])
def test_every_method_trains_and_is_scored(name):
    method, (train, _, test) = digits.METHODS[name], generated()
    result = digits.train_and_score(method, train, test, epochs=20, seed=0)
    training = result["training"]
    # Chance is 10 % and ln 10 = 2.3 nats.
    assert result["mean"]["accuracy"] > 60.0
    assert result["mean"]["nll"] < 1.5
    assert ("samples" in result) == (name != "deterministic")
    if "samples" in result:
        assert result["samples"]["accuracy"] > 50.0
        assert result["samples"]["nll"] != result["mean"]["nll"]
    assert (training["kl"] > 100.0) == method.variational
    assert (training.get("kl_sharpening", 0.0) > 0.0) == (method.sigma0 is not None)
    # The KL is shared out over the training examples, and the sharpening's over the minibatch's.
    parts = training["nll"] + training.get("kl_sharpening", 0.0) + training["kl"] / len(train.digits)
    np.testing.assert_allclose(training["free_energy"], parts, rtol=1e-4)


def test_samples_are_averaged_as_probabilities():
    model = digits.build_model(digits.METHODS["bbb"], training_rows=10, steps=1, seed=0)
    images = generated()[2].images[:5]
    one, two = (digits.predict_by_samples(model, images, samples, seed=3) for samples in (1, 2))
    with ambient.under(model.posterior.sample(tf.constant([3, 1]))):
        second = tf.nn.softmax(model.network(images)).numpy()
    np.testing.assert_allclose(np.exp(two), (np.exp(one) + second) / 2, rtol=1e-4)
    assert np.abs(np.exp(one) - second).max() > 1e-2


@pytest.mark.slow
def test_the_real_digits_from_the_command_line(monkeypatch, capsys, tmp_path):
    pytest.importorskip("sklearn", reason="the digits come with scikit-learn")
    examples = digits.load_examples()
    assert examples.images.shape == (1797, 64)
    assert (examples.images.min(), examples.images.max()) == (0.0, 1.0)
    assert set(examples.digits) == set(range(10))
    monkeypatch.setattr(digits, "METHODS", {"deterministic": digits.METHODS["deterministic"]})
    monkeypatch.setattr(digits, "PAIRS", {})
    file = tmp_path / "digits.json"
    arguments = ["--seeds=1", "--training_rows=300", "--epochs=10", f"--json={file}"]
    monkeypatch.setattr(sys, "argv", ["digits", *arguments])
    digits.main()
    assert "300 training examples, 10 epochs, 1100 test examples" in capsys.readouterr().out
    figures = json.loads(file.read_text())
    assert figures["summaries"]["deterministic"]["mean"]["accuracy"]["mean"] > 70.0
    assert figures["by_seed"]["deterministic"][0]["training"]["kl"] == 0.0
