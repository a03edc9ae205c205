"""What objects carry: code, alignment, answers, how they were made."""
