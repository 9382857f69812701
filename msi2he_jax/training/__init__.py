"""Training: losses, optimiser, state, step and the one loop for every model."""
