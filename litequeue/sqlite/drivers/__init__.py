"""The seam to a driver, and the two drivers."""
