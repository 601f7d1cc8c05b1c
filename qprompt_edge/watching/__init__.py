"""The camera loop, and what it keeps and tells."""
