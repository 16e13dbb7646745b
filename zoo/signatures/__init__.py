"""What signatures of SavedModels are made of."""
