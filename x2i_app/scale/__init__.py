"""Batches on more than one machine, by Ray Data.

An extra (`pip install .[scale]`), never needed for one machine; only the command line imports it, if --ray is given.
"""
