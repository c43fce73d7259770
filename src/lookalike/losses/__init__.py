"""Losses that pytorch-metric-learning lacks."""
