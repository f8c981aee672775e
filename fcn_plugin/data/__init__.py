"""The data: what the host lacks of data sets, checked loading, and a generator of drawn shapes."""
