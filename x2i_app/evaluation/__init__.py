"""How good is a preset? `python -m x2i_app evaluate --prompts FILE` draws the prompts of a set, asks judges, reports.

`prompt_sets.py` and `own_rows.py` read the set, `media.py` draws the media that its rows describe. `run.py` runs:
`images.py` draws the images, `asking.py` asks the `judges.py` about them. `statistics.py` counts, `report.py` and
`html_report.py` write, `comparison.py` compares two reports. The judge of x2i-tiny's cartoon world is in
`x2i_app.miniature.evaluation`.
"""
