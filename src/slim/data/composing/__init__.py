"""Controlled benchmarks: objects cut out and pasted on scenes, with a shortcut that is known."""
