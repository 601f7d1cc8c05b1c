"""How a prompt is learned.

Holds the quantizer, the training loop, and the methods, each of which says what is learned.
"""
