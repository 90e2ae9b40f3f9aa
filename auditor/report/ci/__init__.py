"""What pipelines read: alerts in their own formats, every text from outside made inert."""
