"""Prompts on their way to devices: signed, installed, rolled back."""
