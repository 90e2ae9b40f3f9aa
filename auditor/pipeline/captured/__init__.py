"""Updates from files: read, matched with the model, attacked, and compared with what a client would have sent."""
