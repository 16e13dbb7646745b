"""Reading and writing files, sums over them, and who may write."""
