"""Measurements that anyone can run again; each prints a table for people and one JSON line last."""

import qprompt_runtime  # noqa: F401 -- first of all: it switches onnxruntime's telemetry off
