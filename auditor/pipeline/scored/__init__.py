"""What reconstructions are worth."""
