"""The Keras model, its training step, its carried state and its evaluation."""
