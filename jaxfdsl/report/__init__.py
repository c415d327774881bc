"""What a run leaves for people: metric files, a status line, pictures."""
