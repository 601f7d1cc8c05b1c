"""What a prompt is worth: accuracies on labelled photos, beside zero-shot and a linear probe."""
