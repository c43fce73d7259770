"""Losses that pytorch-metric-learning lacks, or does slowly."""
