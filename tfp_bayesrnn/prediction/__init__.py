"""Predictions over draws of the weights, and their uncertainty."""
