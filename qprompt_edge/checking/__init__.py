"""What is wrong with labelled photos, and whether there are enough, before a prompt is tuned on them."""
