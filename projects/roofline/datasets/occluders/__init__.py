"""Trees that are pasted over roofs: their outlines, their looks, and what they hide of a line."""
