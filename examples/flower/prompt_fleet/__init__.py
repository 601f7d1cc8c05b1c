"""Federated rounds whose message is a prompt file."""
