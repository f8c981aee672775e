"""Load and check images, labels and data sets."""
