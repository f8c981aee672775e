"""Make of a run what others can take: a lean file of weights, its config, and a model card.

``lean`` writes the folder, ``facts`` reads what is known of the run, ``results`` its scores, and
``card`` renders the card. ``folder`` says what a published folder is, ``hub`` moves it to and from
a hub.
"""
