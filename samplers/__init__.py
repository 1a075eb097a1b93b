"""Noise levels and steps: pure functions of tensors, shared by streaming and training."""
