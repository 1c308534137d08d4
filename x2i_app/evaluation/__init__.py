"""Judged by numbers: what a model draws from every kind of input, read by a classifier of the cartoon world."""
