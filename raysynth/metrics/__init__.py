"""Real and synthetic tables to numbers: one file per idea, none of which imports another."""
