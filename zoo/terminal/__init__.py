"""What is printed, and progress."""
