"""Training: losses, optimiser, state, step and the loop around them. One loop serves every model."""
