"""Values, decisions and protocols that every other room builds on. Nothing here opens a file."""
