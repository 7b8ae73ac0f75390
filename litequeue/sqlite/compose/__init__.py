"""What runs after what, in the file: stored, told of ends, retried, cancelled, kept."""
