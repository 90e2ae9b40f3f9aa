"""What protection costs and where it begins: `fl-audit defend`."""
