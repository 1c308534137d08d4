"""Batches on more than one machine, by Ray Data, and the page's jobs, by Ray Serve.

An extra (`pip install .[scale]`), never needed for one machine; only the command line imports it, if --ray is given.
"""
