"""What the dashboard shows: a file for each part of it."""
