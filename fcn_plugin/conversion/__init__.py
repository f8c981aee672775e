"""Convert published weights to checkpoints of our networks."""
