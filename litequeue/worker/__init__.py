"""What runs jobs: the worker, and what it does beside them."""
