"""What Keras optimizers need in a step of ours, and learning-rate schedules."""
