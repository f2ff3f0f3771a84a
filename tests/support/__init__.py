"""What several test modules share: callers, servers, models and other stand-ins."""
