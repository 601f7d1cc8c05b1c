"""Exporters: turn an open_clip model into a backbone bundle, on a workstation with torch."""
