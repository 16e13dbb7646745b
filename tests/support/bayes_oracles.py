"""Densities and divergences in float64, by SciPy, that tests of several modules compare with."""

import math

import numpy as np
from scipy import special, stats

PI, SCALE1, SCALE2 = 0.25, math.exp(-1.0), math.exp(-7.0)
STDDEV = math.sqrt(0.25 * math.exp(-2) + 0.75 * math.exp(-14))  # 0.184, for the released prior.
SHAPES = {"scalar": (), "vector": (5,), "matrix": (4, 3), "3-D": (2, 3, 4)}


def mixture_log_prob(value, rank, granularity, pi=PI, scale1=SCALE1, scale2=SCALE2):
    """The log-density in float64, component by component; `value` may have sample axes in front."""
    value = np.asarray(value, np.float64)
    shared = {"row": min(rank, 1), "weight": 0, "tensor": rank}[granularity]
    components = [
        math.log(weight) + np.sum(stats.norm.logpdf(value, scale=scale), axis=tuple(range(-shared, 0)))
        for weight, scale in ((pi, scale1), (1 - pi, scale2))
    ]
    return np.sum(special.logsumexp(components, axis=0), axis=tuple(range(shared - rank, 0)))


def scale_of(rho):
    """sigma = softplus(rho) + 1e-5."""
    return np.logaddexp(0.0, np.asarray(rho, np.float64)) + 1e-5


def normal_log_prob(value, mu, rho):
    """log q(w), summed over the weight."""
    return np.sum(stats.norm.logpdf(np.asarray(value, np.float64), np.asarray(mu, np.float64), scale_of(rho)))


def normal_kl(mu, rho, scale):
    """KL[N(mu, sigma^2) || N(0, scale^2)], summed over the weight."""
    sigma = scale_of(rho)
    ratio = (sigma / scale) ** 2
    return np.sum(0.5 * (ratio + (np.asarray(mu, np.float64) / scale) ** 2 - 1 - np.log(ratio)))


def weights_of_both_components(shape, seed=0):
    """Float32 weights some of which are typical of the wide component, some of the narrow one."""
    rng = np.random.default_rng(seed)
    rows = rng.choice([SCALE1, SCALE2], size=(*shape[:-1], 1)) if shape else SCALE2
    return (rows * rng.normal(size=shape)).astype(np.float32)
