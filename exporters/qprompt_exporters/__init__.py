"""Exporters: turn an open_clip model into a backbone bundle, on a workstation with torch."""

import qprompt_runtime  # noqa: F401 -- first of all: it switches onnxruntime's telemetry off
