"""Archives of continuous data denoised day by day, in one process or by many."""
