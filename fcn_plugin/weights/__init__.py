"""Weight files: read them (files), tell the publisher (recognise), fill a module (fill)."""
