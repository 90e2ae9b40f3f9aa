"""From known values to the clip that they belong to."""
