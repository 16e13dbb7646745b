"""Prebuilt Bayesian recurrent models: presets, data sets and the experiments that train them."""
