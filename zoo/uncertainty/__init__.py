"""The uncertainty benchmark: how sure models are of text of their kind and of other text."""
