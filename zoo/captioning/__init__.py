"""Image captioning: words for photos, and how sure the model is of them."""
