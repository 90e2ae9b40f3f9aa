"""Which units were open, from gradients behind an average and from what equations miss."""
