"""One self-contained HTML page of a run, or of two side by side.

``hook`` counts while mmengine tests, ``evaluation`` keeps the counts, ``logs`` reads what training
left, ``run`` joins them, ``page`` writes.
"""
