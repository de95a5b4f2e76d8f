"""What a running run says of itself, and how trouble is noticed."""
