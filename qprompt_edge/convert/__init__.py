"""Prompts to and from other tools' files: CoOp's and MaPLe's checkpoints, read without torch, and safetensors."""
