"""Hyper-parameters searched by validation alone, with Optuna."""
