"""What runs inside a child process: it receives calls, runs them, and sends what became of them."""
