"""Likelihoods, the free energy and what is reported of them."""
