"""Which labels were in the batch."""
