"""What may start: rules in the file, the gate that every claim passes, parked jobs, and starts against rates."""
