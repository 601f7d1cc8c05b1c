"""Prompts to and from other tools' files.

Reads checkpoints of CoOp and MaPLe without torch; reads and writes safetensors.
"""
