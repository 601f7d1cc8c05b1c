"""Tuning methods: which weights a method learns, and how they enter the backbone."""
