"""What the sharpened bound of a trained language model depends on: sigma0, eta, which weights, the window.

    python -m benchmarks.sharpened_bound --workdir=runs/ptb_small_bbb --data_dir=DIR

Takes the posterior of a run's best epoch as it is, sharpened in different ways, on the first windows of
valid. `eta` is given as a multiple of sigma0^2, its best value for small steps; at 0 only theta's noise is
left, whose cost is the first column. All figures are perplexities: bounds, with the KL paid, and beside them
the perplexity of the posterior mean on the same windows.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Callable, Iterable

import tensorflow as tf

from benchmarks.kept import Kept
from tfp_bayesrnn import BayesianModel, InputError, PosteriorSharpening
from tfp_bayesrnn.distributions.softplus import inverse_softplus
from tfp_bayesrnn.model.evaluation import StreamEvaluator
from zoo.data.windows import evaluation_windows
from zoo.language_model.experiment import LanguageModelExperiment
from zoo.registry import read_config
from zoo.runs.workdir import Workdir

SIGMA0 = (0.01, 0.02, 0.04, 0.07, 0.1)
ETA = (0.0, 0.5, 1.0, 2.0)
WINDOWS = ((1, 35), (5, 35), (20, 10), (20, 35), (20, 70), (80, 35))
GROUPS = ("embedding", "lstm", "softmax")


class Study:
    """The posterior of a run, to be sharpened in one way after the other."""

    def __init__(self, workdir: str, data_dir: str | None, windows: int):
        directory = Workdir(workdir, create=False)
        self.experiment = LanguageModelExperiment(read_config(directory), directory, data_dir)
        if self.experiment.loop.checkpoints.restore_best() is None:
            raise InputError(f"workdir {workdir} holds no best checkpoint: train it for an epoch first")
        self.windows = windows
        self.evaluators: dict[float, StreamEvaluator] = {}

    def evaluator(self, sigma0: float) -> StreamEvaluator:
        """That of the network sharpened with `sigma0`; what is learned of eta stays behind."""
        if sigma0 not in self.evaluators:
            network = self.experiment.model.network
            model = BayesianModel(network, 1.0, kl_warmup_steps=0, sharpening=PosteriorSharpening(sigma0))
            model.build((None, None))
            self.evaluators[sigma0] = StreamEvaluator(model)
        return self.evaluators[sigma0]

    def dataset(self, rows: int = 20, unroll: int = 35):
        """As many tokens as `windows` windows of 20 rows and 35 steps have."""
        windows = evaluation_windows(self.experiment.data.valid, rows=rows, unroll=unroll)
        return windows.dataset().take(max(1, self.windows * 700 // (rows * unroll)))

    def mean(self, **shape) -> float:
        """Perplexity of the posterior mean."""
        return self.evaluator(SIGMA0[0]).mean(self.dataset(**shape)).perplexity

    def bound(self, sigma0: float, eta: float, only: str | None = None, **shape) -> float:
        """The bound with eta = `eta` * sigma0^2, in one group of weights or in all of them."""
        evaluator = self.evaluator(sigma0)
        posterior, sharpening = evaluator.model.posterior, evaluator.model.sharpening
        for weight, u in zip(posterior.variational, sharpening.u, strict=True):
            follows = eta > 0.0 and (only is None or only in weight.path)
            u.assign(tf.fill(u.shape, inverse_softplus(eta) if follows else -100.0))
        return evaluator.sharpened_bound(self.dataset(**shape)).perplexity_bound


def _print(title: str, head: tuple, rows: Iterable[tuple]) -> None:
    print(title)
    for row in (head, *rows):
        cells = [f"{cell:.2f}" if isinstance(cell, float) else str(cell) for cell in row]
        print("  " + "".join(cell.ljust(12) for cell in cells).rstrip(), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--workdir", required=True)
    parser.add_argument("--data_dir")
    parser.add_argument("--windows", type=int, default=50)
    parser.add_argument("--json", help="file that each row is added to; the same command again goes on")
    arguments = parser.parse_args()
    study = Study(arguments.workdir, arguments.data_dir, arguments.windows)
    kept = Kept(arguments.json, {"workdir": arguments.workdir, "windows": arguments.windows})

    def row(name: str, bounds: Iterable[Callable[[], float]]) -> tuple:
        return name, *kept.piece(name, lambda: [bound() for bound in bounds])

    bound, mean = functools.partial(functools.partial, study.bound), functools.cache(study.mean)
    _print(
        "bound by sigma0 and eta / sigma0^2, batch 20, unroll 35",
        ("", *(f"eta {eta:g}" for eta in ETA), "mean"),
        (row(f"sigma0 {sigma0:g}", [*(bound(sigma0, eta) for eta in ETA), mean]) for sigma0 in SIGMA0),
    )
    _print(
        "eta = sigma0^2 in one group of weights and 0 in the others, theta's noise in all of them",
        ("", *GROUPS, "mean"),
        (
            row(f"{sigma0:g} in one", [*(bound(sigma0, 1.0, only=group) for group in GROUPS), mean])
            for sigma0 in (0.02, 0.07)
        ),
    )
    _print(
        "bound by batch x unroll, eta = sigma0^2 (other windows are other text)",
        ("", "sigma0 0.02", "sigma0 0.04", "sigma0 0.07", "mean"),
        (
            row(
                f"{rows} x {unroll}",
                [
                    *(bound(sigma0, 1.0, rows=rows, unroll=unroll) for sigma0 in (0.02, 0.04, 0.07)),
                    functools.partial(mean, rows=rows, unroll=unroll),
                ],
            )
            for rows, unroll in WINDOWS
        ),
    )


if __name__ == "__main__":
    main()
