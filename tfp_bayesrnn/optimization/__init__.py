"""The operations of a training step on Keras optimizers, and learning-rate schedules."""
