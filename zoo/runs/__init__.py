"""A training run, its workdir and what is restored from it."""
