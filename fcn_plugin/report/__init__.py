"""One self-contained HTML page of a run, or of two side by side.

``hook`` counts while the host tests, ``evaluation`` keeps what was counted, ``logs`` reads what
training left, ``run`` joins them, ``page`` writes.
"""
