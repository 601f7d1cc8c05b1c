"""Measurements that anyone can run again; each prints a table for people and one JSON line last."""
