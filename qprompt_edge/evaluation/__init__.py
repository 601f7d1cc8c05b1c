"""Evaluation of a prompt: accuracies on labelled photos, compared with zero-shot and a linear probe."""
