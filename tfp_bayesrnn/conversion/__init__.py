"""Keras networks made Bayesian, and back."""
