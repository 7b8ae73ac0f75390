"""A call or a result as bytes, and back."""
