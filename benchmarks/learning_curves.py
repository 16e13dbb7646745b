"""Draws the validation perplexity by epoch of several runs.

    python -m benchmarks.learning_curves runs/ptb_small_* --output=docs/ptb_small.png

Needs matplotlib (`pip install '.[plots]'`).
"""

from __future__ import annotations

import argparse
import pathlib

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt

from zoo.registry import read_config
from zoo.runs.workdir import Workdir


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("workdirs", nargs="+")
    parser.add_argument("--output", required=True)
    parser.add_argument("--top", type=float, default=240.0, help="highest perplexity shown")
    arguments = parser.parse_args()
    figure, axes = plt.subplots(figsize=(7, 4), layout="constrained")
    for path in arguments.workdirs:
        workdir = Workdir(path, create=False)
        metrics = workdir.read_metrics()
        label = read_config(workdir).preset
        axes.plot([m["epoch"] for m in metrics], [m["perplexity"] for m in metrics], marker=".", label=label)
    axes.set(xlabel="epoch", ylabel="validation perplexity (mean weights)", ylim=(None, arguments.top))
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.grid(alpha=0.3)
    axes.legend()
    pathlib.Path(arguments.output).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(arguments.output, dpi=120)


if __name__ == "__main__":
    main()
