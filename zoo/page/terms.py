"""Terms, explained where they stand in a report."""

from __future__ import annotations

from zoo.page.markup import Markup, tag

TERMS = {
    "perplexity": (
        "the exponential of the NLL: a model of perplexity 20 is as unsure, on average, as one that "
        "chooses among 20 equally probable words"
    ),
    "NLL": (
        "negative log-likelihood, the mean of minus the logarithm of the probability that was given "
        "to what came; its unit, the nat, is that of the natural logarithm"
    ),
    "KL": (
        "Kullback-Leibler divergence of the posterior over the weights from their prior, the price "
        "of what the weights have learnt from the data"
    ),
    "posterior mean": (
        "predictions of the single network whose weights are the means of their distributions"
    ),
    "error": "the share of words that were not the most probable one",
    "ECE": (
        "expected calibration error, the mean distance between how probable the most probable word "
        "was said to be and how often it came, over bins of equal width or, in the next column, of "
        "equal mass"
    ),
    "Brier": "the squared distance between the probabilities and what came, summed over the words",
    "risk-coverage area": "the mean error over all shares of the predictions kept, the surest first",
    "epistemic part": (
        "what would go if the weights were known: the mutual information of prediction and weights"
    ),
    "signal to noise": "|mean| / standard deviation of a weight's posterior",
    "magnitude": "|mean| of a weight",
    "beam": "the number of unfinished captions that the search keeps at each word",
    "BLEU, ROUGE-L, CIDEr": (
        "what a caption shares with those that people wrote: runs of 1 to 4 words, the longest "
        "sequence in common, and runs weighed by how rare they are"
    ),
}
"""The terms of a report's tables and charts: what each means, after a colon."""


def explained(*terms: str) -> Markup:
    """A note that explains some of `TERMS`."""
    sentences = [f"{term[0].upper()}{term[1:]}: {TERMS[term]}." for term in terms]
    return tag("p", " ".join(sentences), class_="note")
