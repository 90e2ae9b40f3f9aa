"""One attack on one clip, for experiments."""
