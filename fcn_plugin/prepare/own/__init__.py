"""A user's own labelled pictures as a data set."""
