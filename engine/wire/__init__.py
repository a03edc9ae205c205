"""What travels between processes: JSON and NPZ, checked before anything is allocated. No torch here."""
