"""Published weights as checkpoints of our networks."""
