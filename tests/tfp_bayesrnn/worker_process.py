"""One worker of tests/workers_test.py: trains with the project's loop, and saves what it ended with.

TF_CONFIG=... python worker_process.py DIRECTORY ROWS DTYPE_POLICY
"""

import sys
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

STRATEGY = tf.distribute.MultiWorkerMirroredStrategy()  # Before TensorFlow does anything else.

from small_models import ROWS, as_dataset, tokens, values, windows  # noqa: E402
from workers_test import elements_of, make, train, update_with_unequal_rows  # noqa: E402

from tfp_bayesrnn.workers import Workers  # noqa: E402


def main(directory: Path, rows: int):
    workers = Workers(STRATEGY)
    index = STRATEGY.cluster_resolver.task_id
    assert workers.total([index, 1.0]) == [sum(range(workers.count)), workers.count]
    assert workers.chiefs(10.0 + index) == 10.0
    assert workers.agree(5.0) and not workers.agree(index)
    assert workers.is_chief == (index == 0)
    with STRATEGY.scope():
        model = make()
    try:
        model.fit(as_dataset(windows(tokens(rows=ROWS))), verbose=0)
    except ValueError as error:
        print("fit:", error, flush=True)
    model, hooks = train(STRATEGY, directory / "checkpoints", elements_of(rows), index)
    state = [tensor.numpy() for tensor in model.training_state()["state"].read()]
    logs = [report.logs["loss"] for report in hooks.reports]
    ended = [*values(model.variables), *state, np.array(logs), *update_with_unequal_rows(STRATEGY, index)]
    np.savez(directory / f"{index}.npz", *ended)


if __name__ == "__main__":
    keras.config.set_dtype_policy(sys.argv[3])
    main(Path(sys.argv[1]), int(sys.argv[2]))
