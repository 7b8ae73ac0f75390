"""How processes and threads on one machine notice each other: notifications, locks, results, interrupts."""
