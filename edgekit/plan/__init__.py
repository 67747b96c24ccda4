"""Memory plans: which part of a network runs when, so that less of it is alive at once."""
