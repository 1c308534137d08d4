"""The page's jobs on Ray Serve and batches on Ray Data, on one or several machines.

Optional (`pip install .[scale]`): only the command line imports it, if --ray is given.
"""
