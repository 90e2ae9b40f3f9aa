"""What is written and read: the records of every document, which are its declaration.

Encoding, validation and the JSON Schema of a document follow from the types of these records. Nothing here imports
torch.
"""
