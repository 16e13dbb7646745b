"""The sharpened bound of a trained language model, its sharpening fitted to the training text.

    python -m benchmarks.fitted_sharpening --workdir=runs/ptb_small_bbb --data_dir=DIR --rows=1 --unroll=700

Takes the posterior mean of a run's best epoch as it is, and fits what a sharpening learns of windows of the
training text in that shape: by minimising the bound, NLL + KL, of window after window. Then it prints, for
valid and test in the same shape, the perplexity of the mean and the bound with its KL, for each form:
"scaled", with scales that are learned, and "paper", with eta learned and sigma0 as it is given.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterable, Iterator, Sequence

import keras
import tensorflow as tf

from benchmarks.kept import Kept
from tfp_bayesrnn import BayesianModel, noise
from tfp_bayesrnn.model import recurrence, training
from tfp_bayesrnn.model.evaluation import StreamEvaluator
from zoo.data.windows import Windows, evaluation_windows, train_windows
from zoo.language_model.experiment import LanguageModelExperiment
from zoo.registry import read_config
from zoo.runs.assembly import SHARPENINGS
from zoo.runs.workdir import Workdir


def fit(model: BayesianModel, windows: Iterable, steps: int, learning_rate: float) -> Iterator[float]:
    """Fits the sharpening with phi at the mean; yields the bound of every window, nats a prediction."""
    sharpening, optimizer = model.sharpening, keras.optimizers.Adam(learning_rate)
    optimizer.build(sharpening.learned)

    @tf.function(jit_compile=model.use_jit(), autograph=False)
    def step(batch, state, seed):
        mean, learned = model.posterior.mean(), [variable.value for variable in sharpening.learned]
        g, _ = training.likelihood_gradient(mean, model.objective, batch, state, training=False)
        with tf.GradientTape() as tape:
            tape.watch(learned)
            theta, kl = sharpening.sharpen(mean, g, seed)
            forward = training.run_under(theta, model.objective, batch, state, training=False)
            bound = (forward.nll.total + kl) / forward.nll.predictions
        return bound, tape.gradient(bound, learned), forward.state

    state = None
    for index, data in enumerate(itertools.islice(windows, steps)):
        batch = training.unpack(data)
        if state is None:
            state = recurrence.initial_state(model.network, batch.is_first.shape[0])
        seed = noise.derive(noise.make_seed(0), index)
        bound, gradients, state = step(batch, state, seed)
        optimizer.apply(gradients, sharpening.learned)
        yield float(bound)


def scored(model: BayesianModel, windows: Windows) -> dict[str, float]:
    """The perplexity of the mean on windows, and the bound with its parts."""
    evaluator = StreamEvaluator(model)
    mean, bound = evaluator.mean(windows.dataset()), evaluator.sharpened_bound(windows.dataset())
    return {
        "mean": mean.perplexity,
        "bound": bound.perplexity_bound,
        "standard_error": bound.perplexity_bound * bound.standard_error,
        "kl": bound.kl,
    }


def main(given: Sequence[str] | None = None) -> None:
    """Fits, scores and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--workdir", required=True)
    parser.add_argument("--data_dir")
    parser.add_argument("--rows", type=int, default=20)
    parser.add_argument("--unroll", type=int, default=35)
    parser.add_argument("--sigma0", type=float, default=0.02, help="at the start; the paper's form keeps it")
    parser.add_argument("--steps", type=int, default=400, help="windows of the training text")
    parser.add_argument("--learning_rate", type=float, default=0.03, help="of Adam")
    parser.add_argument("--forms", nargs="+", choices=SHARPENINGS, default=list(SHARPENINGS))
    parser.add_argument("--json", help="file that the figures of each form are added to")
    arguments = parser.parse_args(given)
    directory = Workdir(arguments.workdir, create=False)
    experiment = LanguageModelExperiment(read_config(directory), directory, arguments.data_dir)
    experiment.restore_best()
    data, shape = experiment.data, (arguments.rows, arguments.unroll)
    settings = {name: value for name, value in vars(arguments).items() if name not in ("json", "forms")}
    kept = Kept(arguments.json, settings)

    def measure(form: str) -> dict:
        sharpening = SHARPENINGS[form](arguments.sigma0)
        model = BayesianModel(experiment.model.network, 1.0, kl_warmup_steps=0, sharpening=sharpening)
        model.build((None, None))
        windows = train_windows(data.train, *shape, "drop").dataset(0, repeat=True)
        course = list(fit(model, windows, arguments.steps, arguments.learning_rate))
        found = {"course": course, "valid": {}, "test": {}}
        for split in ("valid", "test"):
            found[split] = scored(model, evaluation_windows(getattr(data, split), *shape))
        if form == "scaled":
            names = [weight.path for weight in model.posterior.weights]
            sizes = [float(tf.exp(one.value)) for one in sharpening.log_sigma0]
            found["sigma0"] = dict(zip(names, sizes, strict=True))
        return found

    for form in arguments.forms:
        found = kept.piece(form, lambda form=form: measure(form))
        for split in ("valid", "test"):
            one = found[split]
            print(
                f"{form:<8}{split:<7}{shape[0]} x {shape[1]}: mean {one['mean']:.2f}, "
                f"bound <= {one['bound']:.2f} ± {one['standard_error']:.2f} "
                f"({100 * (one['bound'] / one['mean'] - 1):+.2f} %), KL {one['kl']:.4f} nats a token",
                flush=True,
            )
        for name, size in found.get("sigma0", {}).items():
            print(f"        sigma0 {size:.4f}  {name}")


if __name__ == "__main__":
    main()
