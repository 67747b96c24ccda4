"""Structured pruning: channels that nothing needs go, and what is left is a smaller dense network."""
