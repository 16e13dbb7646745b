"""Validation perplexity by epoch with and without posterior sharpening: the same seed, schedule and epochs.

    python -m benchmarks.sharpening --data_dir=DIR --workdir=runs/sharpening     # Penn Treebank
    python -m benchmarks.sharpening --size=demo --epochs=16 --seeds 0 1 2 --workdir=DIR \\
        --variants sharpening.sigma0=0.02 sharpening.second_order=true           # the built-in corpus

Trains the preset `..._bbb` and `..._bbb_sharpened`, this in several variants, one after the other, through
the command line, into directories under the workdir; the same command again resumes. Then it prints the
perplexity of the posterior mean on valid after each epoch, and the final figures of all. `--common` sets
fields of all.
"""

from __future__ import annotations

import argparse
import math
import pathlib
import subprocess
import sys

import numpy as np

from zoo.language_model.summary import summary
from zoo.runs.workdir import Workdir

PLAIN = "bbb"
_PRESETS = {"demo": "demo", "small": "ptb_small", "medium": "ptb_medium"}


def train(preset: str, workdir: pathlib.Path, flags: list[str]) -> Workdir:
    """Runs or resumes one training, and its evaluation."""
    program = pathlib.Path(__file__).parent.parent / "absl_main.py"
    command = [sys.executable, str(program), "--mode=train", f"--preset={preset}", f"--workdir={workdir}"]
    subprocess.run([*command, *flags], check=True)
    return Workdir(workdir, create=False)


def train_all(arguments: argparse.Namespace, seed: int) -> dict[str, Workdir]:
    """The runs of one seed, by their names: without sharpening, and each variant with it."""
    size, directory = _PRESETS[arguments.size], pathlib.Path(arguments.workdir) / f"seed_{seed}"
    flags = [f"--config.train.epochs={arguments.epochs}", f"--seed={seed}"]
    flags += [f"--config.{setting}" for setting in arguments.common]
    if arguments.data_dir:
        flags.append(f"--data_dir={arguments.data_dir}")
    runs = {PLAIN: train(f"{size}_bbb", directory / PLAIN, flags)}
    for variant in arguments.variants:
        runs[variant] = train(
            f"{size}_bbb_sharpened", directory / f"sharpened_{variant}", [*flags, f"--config.{variant}"]
        )
    return runs


def by_epoch(runs: dict[str, Workdir]) -> str:
    """The table by epoch, of as many epochs as all runs have."""
    metrics = {name: run.read_metrics() for name, run in runs.items()}
    lines = ["epoch  " + "".join(name.ljust(36) for name in metrics).rstrip()]
    for entries in zip(*metrics.values(), strict=False):
        plain, cells = entries[0], [f"{entries[0]['perplexity']:.2f}".ljust(36)]
        for entry in entries[1:]:
            change = 100.0 * (entry["perplexity"] / plain["perplexity"] - 1.0)
            kl = entry["train_kl_sharpening"]
            cells.append(f"{entry['perplexity']:.2f} ({change:+.2f} %, KL {kl:.4f}/token)".ljust(36))
        lines.append(f"{plain['epoch']:<7}" + "".join(cells).rstrip())
    return "\n".join(lines)


def paired(results: list[dict[str, dict]]) -> str:
    """Test perplexities over seeds and their paired differences: mean and standard error."""
    perplexities = {
        name: np.array([runs[name]["test"]["perplexity"] for runs in results]) for name in results[0]
    }
    lines = [f"test perplexity of the mean, {len(results)} seeds, mean ± standard error"]
    for name, values in perplexities.items():
        line = f"  {name:<12} {_mean_and_error(values)}  {[round(float(value), 2) for value in values]}"
        if name != PLAIN:
            line += f"  difference by seed {_mean_and_error(values - perplexities[PLAIN])}"
        lines.append(line)
    return "\n".join(lines)


def _mean_and_error(values: np.ndarray) -> str:
    return f"{values.mean():.3f} ± {values.std(ddof=1) / math.sqrt(len(values)):.3f}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--size", choices=tuple(_PRESETS), default="small")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument(
        "--variants", nargs="+", default=["sharpening.sigma0=0.02"], help="FIELD=VALUE of each sharpened run"
    )
    parser.add_argument("--common", nargs="*", default=[], help="FIELD=VALUE of all runs")
    parser.add_argument("--data_dir")
    parser.add_argument("--workdir", required=True)
    arguments = parser.parse_args()
    results = []
    for seed in arguments.seeds:
        runs = train_all(arguments, seed)
        results.append({name: run.read_results() for name, run in runs.items()})
        print(f"seed {seed}", by_epoch(runs), sep="\n")
        for result in results[-1].values():
            print(summary(result), flush=True)
    if len(results) > 1:
        print(paired(results))


if __name__ == "__main__":
    main()
