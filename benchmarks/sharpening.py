"""Validation perplexity by epoch with and without posterior sharpening: the same seed, schedule and epochs.

    python -m benchmarks.sharpening --data_dir=DIR --workdir=runs/sharpening               # Penn Treebank
    python -m benchmarks.sharpening --size=demo --epochs=16 --workdir=runs/sharpening_demo # built-in corpus

Trains the presets `..._bbb` and `..._bbb_sharpened` one after the other, through the command line, into two
directories under the workdir; the same command again resumes. Then it prints the perplexity of the posterior
mean on valid after each epoch, and the final figures of both.
"""

from __future__ import annotations

import argparse
import pathlib
import subprocess
import sys

from zoo.language_model.results import summary
from zoo.workdir import Workdir

METHODS = ("bbb", "bbb_sharpened")
_PRESETS = {"demo": "demo", "small": "ptb_small", "medium": "ptb_medium"}


def train(preset: str, workdir: pathlib.Path, arguments: argparse.Namespace) -> None:
    """Runs or resumes one training, and its evaluation."""
    command = [
        sys.executable,
        str(pathlib.Path(__file__).parent.parent / "absl_main.py"),
        "--mode=train",
        f"--preset={preset}",
        f"--workdir={workdir}",
        f"--config.train.epochs={arguments.epochs}",
        f"--seed={arguments.seed}",
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


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--size", choices=tuple(_PRESETS), default="small")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data_dir")
    parser.add_argument("--workdir", required=True)
    arguments = parser.parse_args()
    directories = {method: pathlib.Path(arguments.workdir) / method for method in METHODS}
    for method, directory in directories.items():
        train(f"{_PRESETS[arguments.size]}_{method}", directory, arguments)
    runs = {method: Workdir(directory, create=False) for method, directory in directories.items()}
    print(by_epoch(runs))
    for run in runs.values():
        print(summary(run.read_results()))


if __name__ == "__main__":
    main()
