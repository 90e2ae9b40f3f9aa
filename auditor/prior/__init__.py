"""What clips look like before anything is known of one: how much they vary in each space-time cosine mode."""
