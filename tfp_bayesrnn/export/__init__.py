"""SavedModels that need nothing of this package to be loaded."""
