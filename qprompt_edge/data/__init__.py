"""Photos on their way to the model: found with their labels, split, decoded to pixels, encoded to features."""
