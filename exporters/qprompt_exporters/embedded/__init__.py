"""The embedded backbones: how each is built, trained and measured, and its weights."""
