"""Search for clips whose simulated update matches the one observed."""
