"""How many at once, and how often: values and decisions. Knows no SQL."""
