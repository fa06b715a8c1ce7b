"""What a call costs, in time and memory."""
