"""Size and perplexity of a language model in every format of export.

    python -m benchmarks.export_formats --workdir=runs/ptb_small_bbb --data_dir=DIR

Perplexity is that of the first words of the validation split, through the exported signature `score`, cut
into rows that each begin from a state of zeros behind `<eos>`; so it is a little above that of one stream.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import pathlib
import tempfile

import numpy as np
import tensorflow as tf

from tfp_bayesrnn.export.saved_model import WEIGHTS_KINDS
from tfp_bayesrnn.export.storage import FORMATS
from zoo.export import run_export
from zoo.language_model.model import load_data
from zoo.registry import read_config
from zoo.runs.run_data import data_dir_of
from zoo.runs.workdir import Workdir


def perplexity(path: pathlib.Path, ids: np.ndarray) -> float:
    """Of ids [N, T]."""
    score = tf.saved_model.load(str(path)).signatures["score"]
    found = score(ids=tf.constant(ids), lengths=tf.fill([len(ids)], ids.shape[1]))
    return float(np.exp(-np.mean(found["log_probs"].numpy(), dtype=np.float64)))


def main():
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workdir", required=True)
    parser.add_argument("--data_dir")
    parser.add_argument("--prune", type=float, default=0.8)
    parser.add_argument("--rows", type=int, default=20)
    parser.add_argument("--steps", type=int, default=1000)
    arguments = parser.parse_args()
    workdir = Workdir(arguments.workdir, create=False)
    config = read_config(workdir)
    valid = load_data(config, data_dir_of(workdir, config.data.name, arguments.data_dir)).valid
    rows = min(arguments.rows, len(valid) // arguments.steps)
    ids = valid[: rows * arguments.steps].reshape(rows, arguments.steps).astype(np.int32)
    dense = None
    print(f"{'weights':<10} {'format':<8} {'pruned':>6} {'MB':>7} {'of dense':>9}  perplexity")
    for weights, format, prune in itertools.product(WEIGHTS_KINDS, FORMATS, (0.0, arguments.prune)):
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
            path = pathlib.Path(folder) / "export"
            about = run_export.export_run(config, arguments.workdir, path, prune, format, weights)
            found = perplexity(path, ids)
        size = about["bytes"]["all"]
        dense = dense or (size, found)
        print(
            f"{weights:<10} {format:<8} {prune:>6.0%} {size / 1e6:>7.2f} {size / dense[0]:>9.1%}  "
            f"{found:.3f} ({found / dense[1] - 1:+.3%})",
            flush=True,
        )


if __name__ == "__main__":
    main()
