"""`serve`: the page on the device, and the REST interface that does all that the page does."""
