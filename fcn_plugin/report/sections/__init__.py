"""The sections of the page about runs: what each shows, and its template beside it.

``scored`` is what they are given. A section of what was not measured is None or empty.
"""
