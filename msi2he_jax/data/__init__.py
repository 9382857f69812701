"""Paired data: manifest, split, registered pairs, shards with their provenance, loader."""
