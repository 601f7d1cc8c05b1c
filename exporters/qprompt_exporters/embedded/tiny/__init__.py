"""The embedded backbone `tiny`: its configuration, how it is trained and measured, and its weights."""
