"""What a run leaves for people: metric files (`writers`), a status line, pictures, and one HTML
file about it all (`page`).
"""
