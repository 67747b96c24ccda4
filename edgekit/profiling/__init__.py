"""What a bundle costs where it runs: time, memory, and in which layers they go."""
