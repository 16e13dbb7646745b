"""The parts that signatures of SavedModels are made of."""
