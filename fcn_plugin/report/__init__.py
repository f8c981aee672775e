"""A self-contained HTML page about one run, or about two side by side.

``hook`` scores images while mmengine tests, ``evaluation`` stores the scores, ``logs`` reads the
logs of training, ``run`` joins both, ``page`` renders the page.
"""
