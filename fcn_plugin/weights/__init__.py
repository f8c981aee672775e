"""From a file to named tensors: read (files), whose it is (recognise), into a module (fill)."""
