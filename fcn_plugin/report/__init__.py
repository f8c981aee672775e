"""A self-contained HTML page about one run, about two side by side, or about a data set.

``hook`` scores images while mmengine tests, ``evaluation`` stores the scores, ``logs`` reads the
logs of training, ``run`` joins both, ``page`` renders the page of its ``sections``. ``data_facts``
looks at pictures of a data set, ``data_findings`` says what is wrong, ``data_pictures`` chooses
what is shown, and ``data_page`` renders that page.
"""
