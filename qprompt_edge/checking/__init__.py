"""A look at labelled photos before they are trained on: what is wrong with them, and whether there are enough."""
