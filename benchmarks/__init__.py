"""Measurements, one command each, printed as JSON. Results with their hardware are in results/."""
