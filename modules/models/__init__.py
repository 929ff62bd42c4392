"""Weights come in here, components go out: the catalogue, the loader, and the latent model that they make."""
