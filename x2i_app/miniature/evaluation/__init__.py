"""The cartoon world's own judge: which share of the attributes that a prompt asks for do the images of a model show?

`python -m x2i_app evaluate` runs `command.py` and then `evaluate.py`: `cases.py` makes conversations from fresh scenes,
`sampling.py` generates an image for each, `judge.py` reads the images, `attributes.py` compares, `results.py` and
`contact_sheet.py` report.
"""
