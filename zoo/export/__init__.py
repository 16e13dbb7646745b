"""The SavedModels of the zoo's tasks: what their signatures compute."""
