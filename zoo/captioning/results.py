"""The final figures of a captioning model, as results.json has them and as a table."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from absl import logging

from tfp_bayesrnn import BayesianModel
from tfp_bayesrnn.errors import InputError
from tfp_bayesrnn.model.evaluation import StreamEvaluator
from tfp_bayesrnn.prediction import uncertainty
from zoo.captioning import metrics
from zoo.captioning.batches import CaptionBatches
from zoo.captioning.caption_search import Captioner, Captions
from zoo.captioning.configuration import CaptioningConfig
from zoo.configuration.methods import BAYESIAN_METHODS
from zoo.data.captions import CaptionSplit
from zoo.data.vocabulary import Vocabulary
from zoo.runs.figures import best_of, bound_figures, of_samples, word_figures
from zoo.terminal import progress


def caption_results(
    name: str,
    split: CaptionSplit,
    batches: CaptionBatches,
    config: CaptioningConfig,
    evaluator: StreamEvaluator,
    vocabulary: Vocabulary,
) -> dict[str, Any]:
    """Scores a split with the posterior mean, and in every other mode that is asked for.

    Args:
      name: the split's name; the captions of "test" are scored too.
      split: the split's images and captions.
      batches: the same in minibatches.
      config: the run's configuration.
      evaluator: the evaluator of the model, whose variables are those of the checkpoint to be scored.
      vocabulary: the vocabulary of its words.
    """
    results = _likelihoods(name, batches, config, evaluator)
    if name == "test":
        results |= _captions(split, batches, config, evaluator.model, vocabulary, results)
    return results


def _likelihoods(
    name: str, batches: CaptionBatches, config: CaptioningConfig, evaluator: StreamEvaluator
) -> dict[str, dict[str, Any]]:
    """The perplexities of the mean, of the average over samples, and the sharpened bound."""
    samples = config.evaluate.num_samples
    score = evaluator.mean(batches.evaluation(), progress=progress.batches(name))
    results = {name: {**word_figures(score), "weights": "mean"}}
    if samples:
        score = evaluator.average(
            batches.evaluation(), samples, progress=progress.batches(f"{name}, samples")
        )
        results[f"{name}_mc"] = {**word_figures(score), **of_samples(samples)}
    if evaluator.model.sharpening:
        bound = evaluator.sharpened_bound(batches.evaluation(), progress=progress.batches(f"{name}, bound"))
        results[f"{name}_sharpened_bound"] = {
            **bound_figures(bound),
            "batch": batches.batch,
            "weights": "phi: mean; theta: a draw for every minibatch, which has seen its captions",
        }
    return results


def _captions(
    split: CaptionSplit,
    batches: CaptionBatches,
    config: CaptioningConfig,
    model: BayesianModel,
    vocabulary: Vocabulary,
    results: Mapping[str, Any],
) -> dict[str, Any]:
    """The test figures with the scores of the captions found, and what the model's uncertainty says.

    Photos that cannot be read are left out. Captions are of an average over draws of the weights, so there
    are none where only dropout masks are drawn. Without the scorers there is nothing to add, which is said.
    """
    settings, found = config.evaluate, {}
    try:
        metrics.require()
    except InputError as error:  # The scorers are an optional extra.
        logging.warning("%s", error)
        return {}
    for key in ("test", "test_mc") if model.posterior.is_variational else ("test",):
        if key not in results:
            continue
        captioner = Captioner(
            model,
            vocabulary,
            settings.max_words,
            samples=settings.num_samples if key == "test_mc" else 0,
            seed=config.seed,
            beam=settings.beam,
            length_penalty=settings.length_penalty,
        )
        captions = caption_split(captioner, batches, f"{key}, captions")
        seen = [place for place in range(batches.count) if place not in batches.unreadable]
        captions = captions.of(seen)
        names = [split.names[place] for place in seen]
        scores = metrics.score(
            {name: split.references[place] for name, place in zip(names, seen, strict=True)},
            dict(zip(names, captions.words, strict=True)),
            meteor=settings.meteor,
        )
        for note in scores.notes:
            logging.info("%s", note)
        found[key] = {**results[key], "beam": settings.beam, **scores.as_record()}
        if batches.unreadable:
            found[key]["unreadable_photos"] = len(batches.unreadable)
        found[f"{key}_uncertainty"] = what_uncertainty_says(captions, scores.per_image["cider"])
    return found


def caption_split(captioner: Captioner, batches: CaptionBatches, label: str) -> Captions:
    """Captions of all images of a split, in its order."""
    found = [captioner.caption(inputs) for inputs, _, _ in progress.batches(label)(batches.evaluation())]
    return Captions.joined(found).of(range(batches.count))


def what_uncertainty_says(captions: Captions, cider: np.ndarray) -> dict[str, Any]:
    """Measures whether less uncertain captions have a higher CIDEr: rank correlations, risk-coverage areas.

    The area is the mean CIDEr over all shares of the captions that are kept, the least uncertain first;
    without knowledge it is the mean CIDEr itself, and at best `best_area`. Of the curve itself, `curve` has
    the mean CIDEr of the 10 %, 20 % ... 100 % of least uncertainty.
    """
    signals = {
        "entropy": captions.uncertainty("entropy"),
        "mutual_information": captions.uncertainty("mutual_information"),
        "negative_log_probability": -captions.log_probs / np.maximum(captions.lengths, 1),
    }
    found: dict[str, Any] = {
        "mean_cider": float(np.mean(cider)),
        "best_area": float(uncertainty.area_under_risk_coverage(-cider, cider)),
    }
    for name, signal in signals.items():
        if np.ptp(signal) == 0.0:  # The mean has no epistemic part.
            continue
        low, high = uncertainty.bootstrap_interval(uncertainty.rank_correlation, signal, cider)
        found[name] = {
            "rank_correlation": float(uncertainty.rank_correlation(signal, cider)),
            "rank_correlation_95": [float(low), float(high)],
            "area": float(uncertainty.area_under_risk_coverage(signal, cider)),
            "curve": _tenths(uncertainty.risk_coverage(signal, cider)[1]),
        }
    return found


def _tenths(curve: np.ndarray) -> list[float]:
    """A curve's values at a tenth, two tenths ... the whole of its length."""
    places = [max(math.ceil(tenth * len(curve) / 10), 1) - 1 for tenth in range(1, 11)]
    return curve[places].tolist()


_COLUMNS = {"perplexity": "perplexity", **metrics.LABELS}


def summary(results: Mapping[str, Any]) -> str:
    """A table of the figures, saying which weights each is of."""
    columns = [
        name for name in _COLUMNS if any(name in (results.get(key) or {}) for key in ("test", "test_mc"))
    ]
    rows = [("split", "weights", *(_COLUMNS[name] for name in columns))]
    for key in ("valid", "valid_mc", "test", "test_mc"):
        figures = results.get(key)
        if figures is not None:
            cells = [_cell(name, figures.get(name)) for name in columns]
            rows.append((key.removesuffix("_mc"), figures["weights"], *cells))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    is_tempered = results["method"] in BAYESIAN_METHODS and results["kl_weight"] != 1.0
    tempered = f", tempered: KL weight {results['kl_weight']:g}" if is_tempered else ""
    lines = [f"{results['preset']} ({results['method']}{tempered}), {best_of(results)}"]
    lines += ["  " + "  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    for split in ("valid", "test"):
        bound = results.get(f"{split}_sharpened_bound")
        if bound is not None:
            lines.append(
                f"  {split}, sharpened bound, batch {bound['batch']}: perplexity <= "
                f"{bound['perplexity_bound']:.2f} ± {bound['standard_error']:.2f}, of it KL "
                f"{bound['kl_per_token']:.4f} nats/word; its weights have seen each minibatch's captions"
            )
    for key in ("test", "test_mc"):
        entropy = (results.get(f"{key}_uncertainty") or {}).get("entropy")
        if entropy:
            low, high = entropy["rank_correlation_95"]
            lines.append(
                f"  {results[key]['weights']}: rank correlation of a caption's entropy with its CIDEr "
                f"{entropy['rank_correlation']:.3f} ({low:.3f} to {high:.3f})"
            )
    return "\n".join(lines)


def _cell(name: str, value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.2f}" if name == "perplexity" else f"{100 * value:.1f}"
