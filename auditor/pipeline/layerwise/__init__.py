"""What single layers give away: attacked alone, left out of the update, and the sets that are worth keeping back."""
