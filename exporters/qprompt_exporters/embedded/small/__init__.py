"""The embedded backbone `small`: its configuration, how it is trained and measured, and its weights."""
