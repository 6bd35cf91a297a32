"""Normalizing flows and the latent mixture."""
