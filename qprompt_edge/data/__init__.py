"""Photos on their way to the model.

They are found with their labels, split, decoded to pixels, and encoded to features.
"""
