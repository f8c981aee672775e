"""Images, labels and data sets, as every run needs them."""
