"""What outputs of a mechanism prove or allow: exact privacy of Gaussian noise, and bounds from samples."""
