"""Validation perplexity by epoch with and without posterior sharpening: the same seed, schedule and epochs.

    python -m benchmarks.sharpening --data_dir=DIR --workdir=runs/sharpening         # Penn Treebank
    python -m benchmarks.sharpening --size=demo --epochs=16 --seeds 0 1 2 3 4 --workdir=runs/sharpening_demo

Trains the presets `..._bbb` and `..._bbb_sharpened` one after the other, through the command line, into
directories under the workdir; the same command again resumes. Then it prints the perplexity of the posterior
mean on valid after each epoch, and the final figures of both. `--size=demo` is the built-in corpus.
"""

from __future__ import annotations

import argparse
import math
import pathlib
import subprocess
import sys

import numpy as np

from zoo.language_model.results import summary
from zoo.workdir import Workdir

METHODS = ("bbb", "bbb_sharpened")
_PRESETS = {"demo": "demo", "small": "ptb_small", "medium": "ptb_medium"}


def train(preset: str, workdir: pathlib.Path, seed: int, arguments: argparse.Namespace) -> None:
    """Runs or resumes one training, and its evaluation."""
    command = [
        sys.executable,
        str(pathlib.Path(__file__).parent.parent / "absl_main.py"),
        "--mode=train",
        f"--preset={preset}",
        f"--workdir={workdir}",
        f"--config.train.epochs={arguments.epochs}",
        f"--seed={seed}",
    ]
    if arguments.data_dir:
        command.append(f"--data_dir={arguments.data_dir}")
    subprocess.run(command, check=True)


def by_epoch(runs: dict[str, Workdir]) -> str:
    """The table by epoch, of as many epochs as both runs have."""
    metrics = {method: run.read_metrics() for method, run in runs.items()}
    lines = ["epoch  bbb      bbb_sharpened  difference  sharpening KL, nats per training token"]
    for plain, sharpened in zip(*metrics.values(), strict=False):
        difference = sharpened["perplexity"] / plain["perplexity"] - 1.0
        lines.append(
            f"{plain['epoch']:<5}  {plain['perplexity']:<7.2f}  {sharpened['perplexity']:<13.2f}  "
            f"{100.0 * difference:+.2f} %     {sharpened['train_kl_sharpening']:.5f}"
        )
    return "\n".join(lines)


def paired(results: list[dict[str, dict]]) -> str:
    """Test perplexities over seeds and their paired differences: mean and standard error."""
    perplexities = np.array([[run["test"]["perplexity"] for run in pair.values()] for pair in results])
    columns = {"bbb": perplexities[:, 0], "bbb_sharpened": perplexities[:, 1]}
    columns["sharpened - bbb"] = perplexities[:, 1] - perplexities[:, 0]
    lines = [f"test perplexity of the mean, {len(results)} seeds, mean ± standard error"]
    for name, values in columns.items():
        error = values.std(ddof=1) / math.sqrt(len(values))
        lines.append(f"  {name:<16} {values.mean():+.3f} ± {error:.3f}  {np.round(values, 2).tolist()}")
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--size", choices=tuple(_PRESETS), default="small")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--data_dir")
    parser.add_argument("--workdir", required=True)
    arguments = parser.parse_args()
    results = []
    for seed in arguments.seeds:
        runs = {}
        for method in METHODS:
            directory = pathlib.Path(arguments.workdir) / f"seed_{seed}" / method
            train(f"{_PRESETS[arguments.size]}_{method}", directory, seed, arguments)
            runs[method] = Workdir(directory, create=False)
        print(f"seed {seed}")
        print(by_epoch(runs))
        results.append({method: run.read_results() for method, run in runs.items()})
        for result in results[-1].values():
            print(summary(result), flush=True)
    if len(results) > 1:
        print(paired(results))


if __name__ == "__main__":
    main()
