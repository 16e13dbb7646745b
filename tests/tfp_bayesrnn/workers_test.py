"""Several real processes, against as many replicas in one."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from small_models import (
    RecordingHooks,
    as_dataset,
    assert_identical,
    language_model,
    regression,
    regression_data,
    tokens,
    values,
    windows,
)

from tfp_bayesrnn import Dropout, PosteriorSharpening, replicas
from tfp_bayesrnn.loop.loop import Loop
from tfp_bayesrnn.workers import Workers

STEPS = 4
ROOT = Path(__file__).parents[2]


def elements_of(rows):
    return windows(tokens(rows=rows, length=16))


def make():
    layers, sharpening = [Dropout(0.3, seed=0)], PosteriorSharpening(0.3)
    model = language_model(sharpening=sharpening, layers=layers, run_eagerly=False)
    model.compile(keras.optimizers.SGD(0.5, momentum=0.9), clip_norm=1.0, jit_compile=False)
    return model


class Hooks(RecordingHooks):
    """A validation NLL that falls from epoch to epoch, and is another in every worker."""

    def __init__(self, worker):
        super().__init__()
        self.worker = worker

    def on_epoch_end(self, report):
        super().on_epoch_end(report)
        return 3.0 - report.epoch + 10.0 * self.worker


def train(strategy, directory, elements, worker=0):
    with strategy.scope():
        model = make()
    hooks = Hooks(worker)
    loop = Loop(model, lambda step: as_dataset(elements).repeat().skip(step), STEPS, directory, 0.0)
    loop.run(loop.restore(), 2, hooks)
    assert loop.best_nll == 1.0  # The chief's.
    return model, hooks


def update_with_unequal_rows(strategy, worker=None):
    """What a step comes to in which the first worker has two rows, the second one and a third none."""
    keras.utils.set_random_seed(1)
    inputs, targets = regression_data(rows=3)
    rows = slice(None) if worker is None else slice(*[(0, 2), (2, 3), (3, 3)][worker])
    data = tf.constant(inputs[rows]), tf.constant(targets[rows])
    with strategy.scope():
        model = regression([keras.layers.Dense(1)], training_rows=None, compiled=False)
        model.compile(keras.optimizers.SGD(0.1), jit_compile=False)
    step = tf.function(lambda: strategy.run(model.update, args=(data,)), autograph=False)
    loss = replicas.first(strategy, step()["loss"])
    return [*values(model.variables), loss.numpy()]


def free_ports(count):
    sockets = [socket.create_server(("localhost", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def run_workers(count, directory, rows, policy):
    cluster = {"worker": [f"localhost:{port}" for port in free_ports(count)]}
    processes = []
    for index in range(count):
        config = {"cluster": cluster, "task": {"type": "worker", "index": index}}
        support = os.pathsep.join([str(ROOT), str(ROOT / "tests" / "support")])
        environment = {
            **os.environ,
            "PYTHONPATH": support,
            "TF_CONFIG": json.dumps(config),
            "TF_CPP_MIN_LOG_LEVEL": "3",
        }
        program = str(Path(__file__).with_name("worker_process.py"))
        command = [sys.executable, program, directory, str(rows), policy]
        processes.append(
            subprocess.Popen(
                command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
        )
    return [(*process.communicate(timeout=240), process.returncode) for process in processes]


@pytest.fixture
def policy(request):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(request.param)
    yield request.param
    keras.config.set_dtype_policy(before)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("count", "policy"), [(2, "float32"), (3, "float32"), (2, "mixed_bfloat16")], indirect=["policy"]
)
def test_processes_train_like_replicas_in_one_process(mirrored, tmp_path, count, policy):
    rows = 2 * count
    for output, errors, status in run_workers(count, tmp_path, rows, policy):
        assert status == 0, errors[-3000:]
        assert (
            "fit: Keras's fit does not run under MultiWorkerMirroredStrategy; tfp_bayesrnn.loop.L" in output
        )
    ended = [list(np.load(tmp_path / f"{index}.npz").values()) for index in range(count)]
    for other in ended[1:]:
        assert_identical(other, ended[0])
    model, hooks = train(mirrored(count), tmp_path / "mirrored", elements_of(rows))
    state = [tensor.numpy() for tensor in model.training_state()["state"].read()]
    wanted = [*values(model.variables), *state, [report.logs["loss"] for report in hooks.reports]]
    wanted += update_with_unequal_rows(tf.distribute.get_strategy())
    for actual, expected in zip(ended[0], wanted, strict=True):
        # A sum in another order may be rounded to the next bfloat16, which is 2**-8 away.
        half = policy != "float32"
        np.testing.assert_allclose(actual, expected, rtol=2e-2 if half else 1e-4, atol=2e-2 if half else 1e-6)


def test_one_process_is_its_own_chief(mirrored):
    workers = Workers(mirrored(2))
    assert workers.is_chief and workers.count == 1 and not workers.are_several
    assert workers.total([1.5, 2]) == [1.5, 2.0] and workers.chiefs(4.0) == 4.0 and workers.agree(4.0)
