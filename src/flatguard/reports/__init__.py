"""What the record tells: the tape folded again, and decisions in full, for a person. Reads nothing itself."""
